//! A participant that passed every check, token, ICE and DTLS, and then sends whatever a test makes it send.

mod receiver;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use dimpl::{Dtls, DtlsCertificate};
use livekit_protocol as proto;
use proto::{signal_request::Message as Request, signal_response::Message as Response};
use serde_json::json;
use sha2::{Digest, Sha256};
use sluice_srtp::{KeyMaterial, MasterKey, Profile, Sender};
use sluice_wire::stun;
use tokio::{net::UdpSocket, task::JoinHandle, time::timeout};

use crate::{
    PATIENCE,
    signal::{QUERY, Signal},
};

pub use receiver::Receiver;

/// SSRC of its audio.
pub const SSRC: u32 = 0x5eed_0001;
/// Payload type of its audio.
pub const OPUS: u8 = 111;

const UFRAG: &str = "hostile0";
const PASSWORD: &str = "hostile-password-of-24-b";

/// The participant.
pub struct Hostile {
    socket: Arc<UdpSocket>,
    dtls: Dtls,
    sender: Sender,
    profile: Profile,
    sequence: u16,
    number: u64,
    signalling: JoinHandle<()>,
}

impl Hostile {
    /// Joins, publishes one audio track, and completes ICE and DTLS.
    pub async fn join(http: SocketAddr, media: SocketAddr, room: &str, identity: &str) -> anyhow::Result<Hostile> {
        let token = crate::process::token(room, identity, json!({}));
        let mut signal = Signal::connect(http, &token, QUERY).await?;
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![identity.to_owned()])?.self_signed(&key)?;
        let answer = negotiate(&mut signal, &offer(certificate.der())).await?;
        let line = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).context("ICE credentials");
        let (ufrag, password) = (line("a=ice-ufrag:")?, line("a=ice-pwd:")?);

        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        socket.connect(media).await?;
        let consent = check(ufrag, password);
        timeout(PATIENCE, validate(&socket, &consent)).await.context("the check is not answered")??;

        let config = dimpl::Config::builder().flight_start_rto(Duration::from_millis(250)).build()?;
        let certificate = DtlsCertificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() };
        let mut dtls = Dtls::new_12(Arc::new(config), certificate, Instant::now());
        dtls.set_active(true);
        let (exported, profile) =
            timeout(PATIENCE, handshake(&mut dtls, &socket)).await.context("DTLS takes too long")??;
        let material = KeyMaterial::from_exporter(profile, &exported, false)?;
        let sender = Sender::new(&material)?;
        // What the server says from now on does not matter, but the socket must live and consent be kept up.
        let path = socket.clone();
        let signalling = tokio::spawn(async move {
            let mut pings = tokio::time::interval(Duration::from_secs(2));
            loop {
                tokio::select! {
                    message = signal.next() => if message.is_err() { return },
                    _ = pings.tick() => {
                        drop(path.send(&consent).await);
                        let ping = Request::PingReq(proto::Ping { timestamp: 1, rtt: 0 });
                        if signal.send(ping).await.is_err() { return }
                    }
                }
            }
        });
        Ok(Hostile { socket, dtls, sender, profile, sequence: 1, number: 0, signalling })
    }

    /// A protected audio packet as it should be; its number is carried as [`crate::client`] reads it.
    pub fn good(&mut self) -> Vec<u8> {
        self.number += 1;
        let mut payload = vec![0xfc; 40];
        payload[1..9].copy_from_slice(&self.number.to_be_bytes());
        let header = self.header(0x80);
        self.seal(&header, &payload)
    }

    /// A header with the next sequence number and `first` as its first byte.
    pub fn header(&mut self, first: u8) -> Vec<u8> {
        let mut header = vec![first, OPUS];
        header.extend(self.sequence.to_be_bytes());
        header.extend((u32::from(self.sequence) * 960).to_be_bytes());
        header.extend(SSRC.to_be_bytes());
        self.sequence += 1;
        header
    }

    /// A protected packet of a stream that nobody announced.
    pub fn stray(&self, ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut header = vec![0x80, OPUS];
        header.extend(sequence.to_be_bytes());
        header.extend(u32::from(sequence).to_be_bytes());
        header.extend(ssrc.to_be_bytes());
        self.seal(&header, &[0xfc; 20])
    }

    /// Protects a packet with the right keys, whatever it says.
    pub fn seal(&self, header: &[u8], payload: &[u8]) -> Vec<u8> {
        seal(&self.sender, header, payload)
    }

    /// Protects a packet with keys that nobody agreed on.
    pub fn seal_wrongly(&self, header: &[u8], payload: &[u8]) -> anyhow::Result<Vec<u8>> {
        let key = || MasterKey::new(self.profile, &vec![7; self.profile.key_len()], &vec![7; self.profile.salt_len()]);
        let material = KeyMaterial { profile: self.profile, outbound: key()?, inbound: key()? };
        Ok(seal(&Sender::new(&material)?, header, payload))
    }

    /// Protects an RTCP compound with the right keys, whatever it says.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut out = compound.to_vec();
        out.resize(compound.len() + sluice_srtp::MAX_RTCP_OVERHEAD_BYTES, 0);
        let len = self.sender.protect_rtcp(&mut out, compound.len())?;
        out.truncate(len);
        Ok(out)
    }

    /// Sends a datagram on the validated 5-tuple.
    pub async fn send(&self, datagram: &[u8]) -> anyhow::Result<()> {
        self.socket.send(datagram).await?;
        Ok(())
    }

    /// Sends bytes inside DTLS, where SCTP should be.
    pub async fn send_sctp(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.dtls.send_application_data(bytes)?;
        let mut scratch = vec![0; 1 << 15];
        loop {
            match self.dtls.poll_output(&mut scratch) {
                dimpl::Output::Packet(packet) => drop(self.socket.send(packet).await?),
                dimpl::Output::Timeout(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.signalling.abort();
    }
}

fn seal(sender: &Sender, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; header.len() + payload.len() + sluice_srtp::MAX_RTP_OVERHEAD_BYTES];
    let len = sender.seal_rtp(header, payload, 0, &mut out).expect("there is room");
    out.truncate(len);
    out
}

async fn negotiate(signal: &mut Signal, offer: &str) -> anyhow::Result<String> {
    signal.until(|message| matches!(message, Response::Join(_)).then_some(())).await?;
    let track = proto::AddTrackRequest {
        cid: "mic".into(),
        name: "mic".into(),
        r#type: proto::TrackType::Audio as i32,
        source: proto::TrackSource::Microphone as i32,
        ..Default::default()
    };
    signal.send(Request::AddTrack(track)).await?;
    let offer = proto::SessionDescription { r#type: "offer".into(), sdp: offer.into(), id: 1, ..Default::default() };
    signal.send(Request::Offer(offer)).await?;
    let answer = signal.until(|message| match message {
        Response::Answer(answer) => Some(Ok(answer.sdp)),
        Response::Leave(leave) => Some(Err(leave)),
        _ => None,
    });
    answer.await?.map_err(|leave| anyhow::anyhow!("refused: {leave:?}"))
}

/// SHA-256 of a certificate as descriptions write it (RFC 8122 section 5).
fn fingerprint(certificate: &[u8]) -> String {
    let digest: Vec<String> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    digest.join(":")
}

fn offer(certificate: &[u8]) -> String {
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {}\r\na=setup:active\r\n",
        fingerprint(certificate)
    );
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\n{transport}a=mid:0\r\na=rtcp-mux\r\na=sendonly\r\na=msid:s mic\r\n\
         a=rtpmap:{OPUS} opus/48000/2\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=extmap:2 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
         a=ssrc:{SSRC} cname:hostile\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:1\r\na=sctp-port:5000\r\n"
    )
}

fn check(ufrag: &str, password: &str) -> Vec<u8> {
    let username = format!("{ufrag}:{UFRAG}");
    let request = stun::Request {
        transaction_id: stun::TransactionId(rand::random()),
        username: username.as_bytes(),
        password: password.as_bytes(),
        priority: 1,
        use_candidate: true,
        role: stun::Role::Controlling(1),
    };
    let mut out = vec![0; stun::MAX_WRITTEN_BYTES];
    let len = stun::write_request(&mut out, &request).expect("there is room");
    out.truncate(len);
    out
}

/// Repeats a check until it is answered: the answer to the offer may be here before the node knows of us.
async fn validate(socket: &UdpSocket, check: &[u8]) -> anyhow::Result<()> {
    let mut buffer = [0; 2000];
    loop {
        socket.send(check).await?;
        if let Ok(received) = timeout(Duration::from_millis(50), socket.recv(&mut buffer)).await {
            received?;
            return Ok(());
        }
    }
}

/// Until keys are there.
async fn handshake(dtls: &mut Dtls, socket: &UdpSocket) -> anyhow::Result<(Vec<u8>, Profile)> {
    let mut scratch = vec![0; 1 << 15];
    let mut buffer = [0; 2000];
    let mut keys = None;
    dtls.handle_timeout(Instant::now())?;
    loop {
        let mut wake = None;
        while wake.is_none() {
            match dtls.poll_output(&mut scratch) {
                dimpl::Output::Packet(packet) => drop(socket.send(packet).await?),
                dimpl::Output::Timeout(at) => wake = Some(at),
                dimpl::Output::KeyingMaterial(exported, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
                        other => bail!("an unexpected profile {other:?}"),
                    };
                    keys = Some((exported.to_vec(), profile));
                }
                _ => {}
            }
        }
        if let Some(keys) = keys {
            return Ok(keys);
        }
        let wake = wake.expect("the loop ends with it").min(Instant::now() + Duration::from_secs(1));
        match tokio::time::timeout_at(wake.into(), socket.recv(&mut buffer)).await {
            Ok(received) => dtls.handle_packet(&buffer[..received?])?,
            Err(_) => dtls.handle_timeout(Instant::now())?,
        }
    }
}
