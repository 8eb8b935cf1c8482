//! One peer connection with a socket of its own, behind a network that loses and reorders.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use rand::{Rng, rngs::StdRng};
use str0m::{
    Candidate, Input, Rtc,
    channel::ChannelId,
    net::{Protocol, Receive},
};
use tokio::net::UdpSocket;

use super::{Options, Shadow};

/// First bytes of DTLS records (RFC 7983 section 7).
const DTLS: std::ops::RangeInclusive<u8> = 20..=63;

/// Of a client's socket.
const RECEIVE_BUFFER_BYTES: usize = 2 << 20;

pub(super) struct Peer {
    pub(super) rtc: Rtc,
    pub(super) socket: UdpSocket,
    local: SocketAddr,
    pub(super) timeout: Instant,
    /// A datagram held back so that it arrives after the next one.
    late: Option<Vec<u8>>,
    pub(super) channels: HashMap<String, ChannelId>,
    /// Where the last datagram went.
    pub(super) server: Option<SocketAddr>,
    pub(super) shadow: Option<Shadow>,
    pub(super) is_deaf_to_data: bool,
}

impl Peer {
    pub(super) async fn new() -> anyhow::Result<Peer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        // Hundreds of stacks share a core or two: what waits for its turn must not look like loss on the network.
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        let local = socket.local_addr()?;
        let mut rtc = Rtc::builder()
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_reordering_size_audio(50)
            .set_reordering_size_video(200)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp)?);
        Ok(Peer {
            rtc,
            socket,
            local,
            timeout: Instant::now(),
            late: None,
            channels: HashMap::new(),
            server: None,
            shadow: None,
            is_deaf_to_data: false,
        })
    }

    /// Sends a datagram, unless the network loses it.
    pub(super) fn transmit(&mut self, dice: &mut StdRng, options: &Options, to: SocketAddr, datagram: &[u8]) {
        self.server = Some(to);
        if options.loss > 0.0 && dice.random_bool(options.loss) {
            return;
        }
        // A full socket buffer is loss like any other.
        let _ = self.socket.try_send_to(datagram, to);
        let more = self.shadow.as_mut().map(|shadow| shadow(datagram)).unwrap_or_default();
        self.raw(&more);
    }

    /// Sends datagrams to the server as they are.
    pub(super) fn raw(&self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            if let Some(server) = self.server {
                let _ = self.socket.try_send_to(datagram, server);
            }
        }
    }

    /// Feeds a datagram to the stack, with loss and reordering on the way.
    pub(super) fn deliver(
        &mut self,
        dice: &mut StdRng,
        options: &Options,
        from: SocketAddr,
        datagram: &[u8],
    ) -> anyhow::Result<()> {
        if options.loss > 0.0 && dice.random_bool(options.loss) {
            return Ok(());
        }
        if self.is_deaf_to_data && datagram.first().is_some_and(|first| DTLS.contains(first)) {
            return Ok(());
        }
        if options.reorder > 0.0 && self.late.is_none() && dice.random_bool(options.reorder) {
            self.late = Some(datagram.to_vec());
            return Ok(());
        }
        let late = self.late.take();
        for contents in [Some(datagram), late.as_deref()].into_iter().flatten() {
            let receive = Receive::new(Protocol::Udp, from, self.local, contents)?;
            self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
        }
        Ok(())
    }

    /// Lets time pass where it is due.
    pub(super) fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.timeout <= now {
            self.rtc.handle_input(Input::Timeout(now))?;
        }
        Ok(())
    }
}
