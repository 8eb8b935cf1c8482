//! One transport with its socket.

use std::{io::IoSliceMut, net::SocketAddr};

use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, UdpSocketState};
use sluice_wire::{Micros, PacketClass, classify};

use crate::{
    clock::Clock,
    measure::{Phase, Tally},
    publish::{Accepted, Publisher, Ssrcs},
    receive::{First, Subscriber},
    scenario::Scenario,
    transport::{Keys, Transport, TransportError},
};
use std::sync::Arc;

/// Datagrams, or trains of them, that are taken from one socket at a time. More of them cost time to prepare even where only
/// one is there, as mostly; fewer take more system calls for a socket that has waited long.
const BATCH: usize = 8;

/// Memory for one receive: a train of datagrams that the kernel has not taken apart (UDP_GRO) has up to 64 KiB.
const BUFFER_BYTES: usize = 1 << 16;

/// Which of a participant's two connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Publisher,
    Subscriber,
}

/// What a transport carries.
pub enum Media {
    /// A publisher begins when its transport has keys.
    Publish {
        scenario: Arc<Scenario>,
        ssrcs: Ssrcs,
        accepted: Accepted,
        publisher: Option<Box<Publisher>>,
    },
    Receive(Box<Subscriber>),
}

/// A transport, its socket, and what it carries.
pub struct Endpoint {
    pub id: u64,
    pub participant: u32,
    pub socket: UdpSocket,
    state: UdpSocketState,
    pub transport: Transport,
    pub media: Media,
    /// The socket is connected to the server's address.
    is_connected: bool,
}

/// Memory that all endpoints of a thread receive into.
pub(super) struct Batch {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH],
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch { bytes: vec![0; BUFFER_BYTES * BATCH], metas: [RecvMeta::default(); BATCH] }
    }
}

/// What an endpoint has to tell.
#[derive(Default)]
pub(super) struct Told {
    /// Its socket may hold more.
    pub(super) more: bool,
    pub(super) connected: bool,
    pub(super) firsts: Vec<First>,
    pub(super) failed: Option<TransportError>,
}

impl Endpoint {
    /// An endpoint on a bound, non-blocking socket.
    pub fn new(
        id: u64,
        participant: u32,
        socket: std::net::UdpSocket,
        transport: Transport,
        media: Media,
    ) -> std::io::Result<Endpoint> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket);
        Ok(Endpoint { id, participant, socket, state, transport, media, is_connected: false })
    }

    pub(super) fn role(&self) -> Role {
        match self.media {
            Media::Publish { .. } => Role::Publisher,
            Media::Receive(_) => Role::Subscriber,
        }
    }

    pub(super) fn wake(&self) -> Micros {
        let media = match &self.media {
            _ if self.transport.keys.is_none() => Micros::NEVER,
            Media::Publish { publisher, .. } => publisher.as_ref().map_or(Micros::NEVER, |publisher| publisher.wake()),
            Media::Receive(subscriber) => subscriber.wake(),
        };
        self.transport.wake().min(media)
    }

    /// Takes one batch from the socket.
    pub(super) fn receive(&mut self, clock: Clock, phase: Phase, batch: &mut Batch, tally: &mut Tally) -> Told {
        let mut told = Told::default();
        let mut rest = &mut batch.bytes[..];
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            let (slice, more) = std::mem::take(&mut rest).split_at_mut(BUFFER_BYTES);
            rest = more;
            IoSliceMut::new(slice)
        });
        // An error is a message from the network (a port where nobody listens) or an empty queue; consent tells the rest.
        let Ok(count) = self.state.recv((&self.socket).into(), &mut slices, &mut batch.metas) else { return told };
        told.more = count == BATCH;
        let now_ns = clock.ns();
        let now = Micros(now_ns / 1000);
        for (i, meta) in batch.metas.iter().take(count).enumerate() {
            let bytes = &mut batch.bytes[i * BUFFER_BYTES..i * BUFFER_BYTES + meta.len];
            for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                match self.datagram(now, now_ns, meta.addr, datagram, clock, phase, tally, &mut told) {
                    Ok(()) => {}
                    Err(error) => {
                        told.failed = Some(error);
                        return told;
                    }
                }
            }
        }
        self.flush();
        told
    }

    #[expect(clippy::too_many_arguments, reason = "one datagram with the clock and the places to count in")]
    fn datagram(
        &mut self,
        now: Micros,
        now_ns: u64,
        from: SocketAddr,
        datagram: &mut [u8],
        clock: Clock,
        phase: Phase,
        tally: &mut Tally,
        told: &mut Told,
    ) -> Result<(), TransportError> {
        match classify(datagram) {
            Some(PacketClass::Rtp) => {
                if let (Media::Receive(subscriber), Some(keys)) = (&mut self.media, &mut self.transport.keys) {
                    told.firsts.extend(subscriber.rtp(now, now_ns, datagram, keys, phase, tally));
                }
            }
            Some(PacketClass::Rtcp) => {
                let Some(keys) = &mut self.transport.keys else { return Ok(()) };
                match &mut self.media {
                    Media::Receive(subscriber) => subscriber.rtcp(now, datagram, keys, tally),
                    Media::Publish { publisher, .. } => {
                        let socket = &self.socket;
                        if let Some(publisher) = publisher {
                            publisher.rtcp(datagram, keys, tally, |packet| socket.send(packet).is_ok());
                        }
                    }
                }
            }
            Some(PacketClass::Stun | PacketClass::Dtls) => {
                let connected = self.transport.datagram(now, from, datagram)?;
                self.flush();
                if connected {
                    told.connected = true;
                    self.begin(clock);
                }
            }
            None => {}
        }
        Ok(())
    }

    /// The transport has keys.
    fn begin(&mut self, clock: Clock) {
        self.connect();
        if let Media::Publish { scenario, ssrcs, accepted, publisher } = &mut self.media {
            *publisher = Some(Box::new(Publisher::new(scenario, self.participant, ssrcs, *accepted, clock.now())));
        }
    }

    /// Binds the socket to the server's address: cheaper in the kernel, and nobody else's datagrams come in.
    fn connect(&mut self) {
        if !self.is_connected
            && self.transport.keys.is_some()
            && let Some(server) = self.transport.ice.selected()
        {
            self.is_connected = self.socket.connect(server).is_ok();
        }
    }

    /// Whatever is due.
    pub(super) fn tick(&mut self, clock: Clock, now: Micros, tally: &mut Tally) -> Told {
        let mut told = Told::default();
        if self.transport.wake() <= now {
            match self.transport.tick(now) {
                Ok(connected) => told.connected = connected,
                Err(error) => told.failed = Some(error),
            }
            self.flush();
            if told.connected {
                self.begin(clock);
            }
        }
        let Some(keys) = &mut self.transport.keys else { return told };
        let socket = &self.socket;
        match &mut self.media {
            Media::Publish { publisher: Some(publisher), .. } if publisher.wake() <= now => {
                publisher.tick(now, || clock.ns(), keys, tally, |packet| socket.send(packet).is_ok());
            }
            Media::Receive(subscriber) if subscriber.wake() <= now => {
                let Keys { sender, .. } = &mut **keys;
                subscriber.tick(now, tally, |compound| {
                    let mut bytes = [0; 1300];
                    let Some(room) = bytes.get_mut(..compound.len()) else { return };
                    room.copy_from_slice(compound);
                    if let Ok(len) = sender.protect_rtcp(&mut bytes, compound.len()) {
                        // A full socket buffer is loss like any other.
                        let _ = socket.send(&bytes[..len]);
                    }
                });
            }
            _ => {}
        }
        told
    }

    /// Sends what the transport has to say.
    fn flush(&mut self) {
        while let Some((to, datagram)) = self.transport.poll() {
            // A full socket buffer is loss like any other.
            let _ = if self.is_connected { self.socket.send(&datagram) } else { self.socket.send_to(&datagram, to) };
        }
    }

    /// Adds what came since this was last asked.
    pub(super) fn settle_into(&mut self, tally: &mut Tally) {
        if let Media::Receive(subscriber) = &mut self.media {
            subscriber.settle_into(tally);
        }
    }
}
