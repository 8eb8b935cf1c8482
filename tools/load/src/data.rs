//! SCTP (RFC 8261) as far as a server waits for it: the association, and an answer to each channel that the server opens
//! (RFC 8832). What arrives on the channels is thrown away.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ServerConfig, StreamEvent, TransportConfig,
};

/// SCTP wants an address; DTLS has none to offer and nobody looks at it.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000);

/// First bytes of DATA_CHANNEL_OPEN and DATA_CHANNEL_ACK.
const OPEN: u8 = 3;
const ACK: u8 = 2;

/// Received bytes that may wait. All is read at once, so little is needed.
const RECEIVE_BUFFER_BYTES: u32 = 64 << 10;

/// The association of one transport.
pub struct Channels {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    is_established: bool,
    /// Streams whose opening is not acknowledged yet.
    opened: Vec<u16>,
}

impl Channels {
    /// Begins an association, as DTLS clients do. None if the library refuses.
    pub fn new() -> Option<Channels> {
        let mut server = ServerConfig::new();
        server.transport = Arc::new(TransportConfig::default().with_max_receive_buffer_size(RECEIVE_BUFFER_BYTES));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), Some(Arc::new(server)));
        let mut config = ClientConfig::new();
        config.transport = Arc::new(
            TransportConfig::default()
                .with_max_init_retransmits(None)
                .with_max_data_retransmits(None)
                .with_max_receive_buffer_size(RECEIVE_BUFFER_BYTES),
        );
        let (handle, association) = endpoint.connect(config, NOWHERE).ok()?;
        Some(Channels { endpoint, handle, association, is_established: false, opened: Vec::new() })
    }

    /// A decrypted datagram.
    pub fn datagram(&mut self, now: Instant, datagram: &[u8]) {
        let datagram = Bytes::copy_from_slice(datagram);
        match self.endpoint.handle(now, NOWHERE, None, None, datagram) {
            Some((handle, DatagramEvent::AssociationEvent(event))) if handle == self.handle => {
                self.association.handle_event(event);
            }
            // Some servers begin, too (LiveKit): then theirs is the association.
            Some((handle, DatagramEvent::NewAssociation(association))) if !self.is_established => {
                (self.handle, self.association) = (handle, association);
            }
            _ => {}
        }
    }

    /// When [`Channels::timeout`] is due.
    pub fn wake(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    /// The time has come that [`Channels::wake`] said.
    pub fn timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    /// Hands over everything that DTLS is to send.
    pub fn drain(&mut self, now: Instant, mut sink: impl FnMut(&[u8])) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => self.is_established = true,
                Event::Stream(StreamEvent::Opened { .. }) => while self.association.accept_stream().is_some() {},
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                _ => {}
            }
        }
        if self.is_established {
            for id in self.opened.drain(..) {
                if let Ok(mut stream) = self.association.stream(id) {
                    // Fails only if the association is going down; media goes on without it.
                    let _ = stream.write_with_ppi(&[ACK], Ppid::Dcep);
                }
            }
        }
        while let Some(Payload::RawEncode(datagrams)) = self.association.poll_transmit(now).map(|t| t.payload) {
            datagrams.iter().for_each(|datagram| sink(datagram));
        }
        while let Some(event) = self.association.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.association.handle_event(event);
            }
        }
    }

    fn read(&mut self, id: u16) {
        while let Ok(Some(chunks)) = self.association.stream(id).and_then(|mut stream| stream.read_sctp()) {
            let mut payload = vec![0; chunks.len()];
            let is_read = chunks.read(&mut payload).is_ok();
            if is_read && chunks.ppi == Ppid::Dcep && payload.first() == Some(&OPEN) {
                self.opened.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_begins_as_well_gets_its_association() {
        let mut channels = Channels::new().unwrap();
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
        let (_, mut server) = endpoint.connect(ClientConfig::new(), NOWHERE).unwrap();
        let now = Instant::now();
        let mut connected = false;
        for _ in 0..10 {
            while let Some(Payload::RawEncode(datagrams)) = server.poll_transmit(now).map(|t| t.payload) {
                datagrams.iter().for_each(|datagram| channels.datagram(now, datagram));
            }
            let mut answers = Vec::new();
            channels.drain(now, |datagram| answers.push(Bytes::copy_from_slice(datagram)));
            for answer in answers {
                // What the client began with is not for this endpoint, which takes no associations.
                if answer[12] == INIT {
                    continue;
                }
                if let Some((_, DatagramEvent::AssociationEvent(event))) =
                    endpoint.handle(now, NOWHERE, None, None, answer)
                {
                    server.handle_event(event);
                }
            }
            connected |= std::iter::from_fn(|| server.poll()).any(|event| matches!(event, Event::Connected));
        }
        assert!(connected && channels.is_established);
    }

    /// Type of the chunk that begins an association (RFC 9260 section 3.3.2).
    const INIT: u8 = 1;
}
