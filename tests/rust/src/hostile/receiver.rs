//! A participant that receives as it should and then asks, or vanishes, as it should not.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use anyhow::Context;
use dimpl::{Dtls, DtlsCertificate};
use livekit_protocol as proto;
use proto::{signal_request::Message as Request, signal_response::Message as Response};
use serde_json::json;
use sluice_srtp::{KeyMaterial, Sender};
use sluice_wire::{PacketClass, classify, rtcp::Compound};
use tokio::{net::UdpSocket, task::JoinHandle, time::timeout};

use super::{PASSWORD, UFRAG, check, fingerprint, handshake, validate};
use crate::{
    PATIENCE,
    signal::{QUERY, Signal},
};

/// Longest compound that is sent.
const COMPOUND_BYTES: usize = 1100;

/// SSRC of its RTCP.
const SSRC: u32 = 0x5eed_0002;

/// The participant. It publishes nothing and is subscribed to everything.
pub struct Receiver {
    /// None once it has vanished.
    socket: Option<Arc<UdpSocket>>,
    sender: Sender,
    /// Newest sequence number of each stream.
    newest: HashMap<u32, u16>,
    signalling: JoinHandle<()>,
}

impl Receiver {
    /// Joins, answers what it is offered, and completes ICE and DTLS from a socket at `local`.
    pub async fn join(
        http: SocketAddr,
        media: SocketAddr,
        local: IpAddr,
        room: &str,
        identity: &str,
    ) -> anyhow::Result<Receiver> {
        let token = crate::process::token(room, identity, json!({}));
        let mut signal = Signal::connect(http, &token, QUERY).await?;
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![identity.to_owned()])?.self_signed(&key)?;
        let fingerprint = fingerprint(certificate.der());
        let offered = |message| if let Response::Offer(offer) = message { Some(offer) } else { None };
        let offer = signal.until(offered).await?;
        let line = |name: &str| offer.sdp.lines().find_map(|line| line.strip_prefix(name)).context("ICE credentials");
        let consent = check(line("a=ice-ufrag:")?, line("a=ice-pwd:")?);
        signal.send(answer(&offer, &fingerprint)).await?;

        let socket = Arc::new(UdpSocket::bind((local, 0)).await?);
        socket.connect(media).await?;
        timeout(PATIENCE, validate(&socket, &consent)).await.context("the check is not answered")??;
        let config = dimpl::Config::builder().flight_start_rto(Duration::from_millis(250)).build()?;
        let certificate = DtlsCertificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() };
        let mut dtls = Dtls::new_12(Arc::new(config), certificate, Instant::now());
        dtls.set_active(true);
        let (exported, profile) =
            timeout(PATIENCE, handshake(&mut dtls, &socket)).await.context("DTLS takes too long")??;
        let sender = Sender::new(&KeyMaterial::from_exporter(profile, &exported, false)?)?;

        // Only this participant's owner keeps the socket open.
        let path: Weak<UdpSocket> = Arc::downgrade(&socket);
        let signalling = tokio::spawn(async move {
            let mut pings = tokio::time::interval(Duration::from_secs(2));
            loop {
                let says = tokio::select! {
                    message = signal.next() => match message {
                        Ok(Response::Offer(offer)) => answer(&offer, &fingerprint),
                        Ok(_) => continue,
                        Err(_) => return,
                    },
                    _ = pings.tick() => {
                        if let Some(socket) = path.upgrade() {
                            drop(socket.send(&consent).await);
                        }
                        Request::PingReq(proto::Ping { timestamp: 1, rtt: 0 })
                    }
                };
                if signal.send(says).await.is_err() {
                    return;
                }
            }
        });
        Ok(Receiver { socket: Some(socket), sender, newest: HashMap::new(), signalling })
    }

    /// Waits for the next RTP packet, and notes its stream and number.
    pub async fn receive(&mut self) -> anyhow::Result<()> {
        let socket = self.socket()?;
        let mut buffer = [0; 2000];
        loop {
            let bytes = timeout(PATIENCE, socket.recv(&mut buffer)).await.context("no media comes")??;
            if classify(&buffer[..bytes]) == Some(PacketClass::Rtp) && bytes >= 12 {
                let word = |at: usize| u32::from_be_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
                self.newest.insert(word(8), word(0) as u16);
                return Ok(());
            }
        }
    }

    /// Streams seen so far.
    pub fn streams(&self) -> usize {
        self.newest.len()
    }

    /// Says of each stream that its last hundred packets are missing.
    pub async fn miss_everything(&mut self) -> anyhow::Result<()> {
        for (ssrc, newest) in self.newest.clone() {
            let all: Vec<u16> = (0..100).rev().map(|back| newest.wrapping_sub(back)).collect();
            self.say(|compound| {
                compound.nack(SSRC, ssrc, &all).context("room for a NACK")?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Asks each stream for a key frame.
    pub async fn lose_pictures(&mut self) -> anyhow::Result<()> {
        for ssrc in self.newest.keys().copied().collect::<Vec<_>>() {
            self.say(|compound| compound.picture_loss(SSRC, ssrc).context("room for a PLI")).await?;
        }
        Ok(())
    }

    async fn say(&mut self, write: impl FnOnce(&mut Compound<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut out = [0; COMPOUND_BYTES + sluice_srtp::MAX_RTCP_OVERHEAD_BYTES];
        let mut compound = Compound::new(&mut out[..COMPOUND_BYTES]);
        compound.receiver_report(SSRC, &[]).context("room for a report")?;
        write(&mut compound)?;
        let len = compound.len();
        let len = self.sender.protect_rtcp(&mut out, len)?;
        self.socket()?.send(&out[..len]).await?;
        Ok(())
    }

    /// Closes the socket without a word, and goes on to ping on the WebSocket.
    pub fn vanish(&mut self) {
        self.socket = None;
    }

    fn socket(&self) -> anyhow::Result<Arc<UdpSocket>> {
        self.socket.clone().context("it has vanished")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.signalling.abort();
    }
}

/// An answer that receives all that is offered.
fn answer(offer: &proto::SessionDescription, fingerprint: &str) -> Request {
    let unsaid = ["a=ssrc", "a=msid", "a=candidate", "a=end-of-candidates", "a=ice-lite"];
    let lines = offer.sdp.lines().filter(|line| !unsaid.iter().any(|name| line.starts_with(name)));
    let sdp: String = lines
        .map(|line| match line.split_once(':').map_or(line, |(name, _)| name) {
            "a=ice-ufrag" => format!("a=ice-ufrag:{UFRAG}\r\n"),
            "a=ice-pwd" => format!("a=ice-pwd:{PASSWORD}\r\n"),
            "a=fingerprint" => format!("a=fingerprint:sha-256 {fingerprint}\r\n"),
            "a=setup" => "a=setup:active\r\n".to_owned(),
            "a=sendonly" => "a=recvonly\r\n".to_owned(),
            _ => format!("{line}\r\n"),
        })
        .collect();
    Request::Answer(proto::SessionDescription { r#type: "answer".into(), sdp, id: offer.id, ..Default::default() })
}
