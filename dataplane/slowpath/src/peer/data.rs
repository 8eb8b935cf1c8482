//! SCTP inside DTLS (RFC 8261) with the data channels of one peer (RFC 8831).
//!
//! The client sends INIT first: every browser associates as soon as DTLS is up, so waiting for it saves the collision of
//! two INITs. We open channels on odd streams, the DTLS client on even ones (RFC 8832 section 6).

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
use sluice_messages::{Data, DataKind};

use super::{
    Counters, LOSSY_BUFFER_BYTES_MAX, MESSAGE_BYTES_MAX, MTU_BYTES, Output, RELIABLE_BUFFER_BYTES_MAX, SendError,
    dcep::{self, Reliability},
};

/// Channels of one peer, whatever their labels. LiveKit clients open three; more cost memory that a client controls.
const CHANNELS_MAX: usize = 16;

/// Bytes of user data in one DATA chunk: what MTU_BYTES leaves after DTLS 1.2 (13 header, 8 nonce, 16 tag), SCTP (12), the
/// chunk header (16), padding (3), and room for a SACK that shares the packet (32).
const PAYLOAD_BYTES_MAX: usize = MTU_BYTES - 37 - 12 - 16 - 3 - 32;

/// Longest message that SCTP reassembles. Above [`MESSAGE_BYTES_MAX`], so that a message somewhat too long is a counted
/// drop; beyond this the library ends the association.
const REASSEMBLY_BYTES_MAX: u32 = 256 << 10;

/// Received bytes that may wait for reassembly. Raising it costs memory per client, lowering it slows large messages.
const RECEIVE_BUFFER_BYTES: u32 = 1 << 20;

/// SCTP wants an address; DTLS has none to offer and nobody looks at it.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000);

/// The data channels of one peer.
pub(super) struct Channels {
    wanted: Option<Data>,
    endpoint: Option<Endpoint>,
    association: Option<(AssociationHandle, Association)>,
    established: bool,
    /// We sent our DATA_CHANNEL_OPENs, where we have to.
    opened: bool,
    channels: Vec<Channel>,
}

struct Channel {
    stream: u16,
    /// None for a label we do not know.
    kind: Option<DataKind>,
    reliability: Reliability,
    /// Opened by the client, or by us and acknowledged.
    open: bool,
}

impl Channels {
    pub(super) fn new(wanted: Option<Data>) -> Channels {
        Channels { wanted, endpoint: None, association: None, established: false, opened: false, channels: Vec::new() }
    }

    /// Changes what is wanted. Channels that exist stay: the description cannot take them back.
    pub(super) fn want(&mut self, wanted: Option<Data>) {
        self.wanted = wanted;
    }

    /// DTLS is up: from now on SCTP is listened to, or restarted where the client has an association with another node.
    pub(super) fn begin(&mut self) {
        let mut config = EndpointConfig::new();
        config.max_payload_size(PAYLOAD_BYTES_MAX as u32);
        // Whether the client is still there is ICE's question: SCTP retransmits as long as there is consent.
        let transport = Arc::new(
            TransportConfig::default()
                .with_max_init_retransmits(None)
                .with_max_data_retransmits(None)
                // As browsers have it: a lost chat message waits half a second, not three.
                .with_rto_initial_ms(500)
                .with_rto_min_ms(400)
                .with_rto_max_ms(10_000)
                .with_max_receive_buffer_size(RECEIVE_BUFFER_BYTES)
                .with_max_receive_message_size(REASSEMBLY_BYTES_MAX)
                .with_max_send_message_size(MESSAGE_BYTES_MAX as u32)
                .with_max_num_inbound_streams(1024)
                .with_max_num_outbound_streams(1024),
        );
        let mut server = ServerConfig::new();
        server.transport = transport.clone();
        let is_resumed = self.is_resumed();
        let endpoint = self.endpoint.insert(Endpoint::new(Arc::new(config), Some(Arc::new(server))));
        if is_resumed {
            let mut client = ClientConfig::new();
            client.transport = transport;
            // The client answers an INIT on an association that it has by restarting it, and keeps its channels.
            if let Ok(association) = endpoint.connect(client, NOWHERE) {
                endpoint.reject_new_associations();
                self.association = Some(association);
            }
        }
    }

    fn is_resumed(&self) -> bool {
        self.wanted.is_some_and(|data| data.streams.iter().next().is_some())
    }

    /// Channels that the client has open go on as they are.
    fn resume(&mut self, outputs: &mut impl Extend<Output>) {
        let (Some(wanted), Some((_, association))) = (self.wanted, &mut self.association) else { return };
        for (kind, stream) in wanted.streams.iter() {
            let reliability = Reliability::of(kind);
            let Ok(mut opened) = association.open_stream(stream, Ppid::Binary) else { continue };
            // The stream was opened just now.
            let _ = opened.set_reliability_params(reliability.unordered, reliability.kind, reliability.value);
            self.channels.push(Channel { stream, kind: Some(kind), reliability, open: true });
            outputs.extend([Output::ChannelOpen(kind, stream)]);
        }
    }

    /// A decrypted datagram.
    pub(super) fn datagram(&mut self, now: Instant, datagram: &[u8], counters: &mut Counters) {
        if self.wanted.is_none() {
            return;
        }
        let Some(endpoint) = &mut self.endpoint else {
            return;
        };
        match endpoint.handle(now, NOWHERE, None, None, Bytes::copy_from_slice(datagram)) {
            Some((handle, DatagramEvent::NewAssociation(association))) if self.association.is_none() => {
                // One association per DTLS association (RFC 8831 section 6.1).
                endpoint.reject_new_associations();
                self.association = Some((handle, association));
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.association {
                    association.handle_event(event);
                }
            }
            _ => counters.sctp_dropped += 1,
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }

    /// When [`Channels::timeout`] is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.association.as_ref().and_then(|(_, association)| association.poll_timeout())
    }

    /// Datagrams for DTLS.
    pub(super) fn transmit(&mut self, now: Instant) -> Vec<Bytes> {
        let Some((_, association)) = &mut self.association else {
            return Vec::new();
        };
        match association.poll_transmit(now).map(|t| t.payload) {
            Some(Payload::RawEncode(datagrams)) => datagrams,
            _ => Vec::new(),
        }
    }

    /// Queues a message for the client.
    pub(super) fn send(&mut self, kind: DataKind, payload: &[u8], counters: &mut Counters) -> Result<(), SendError> {
        if payload.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLong(payload.len()));
        }
        let channel = self.channels.iter().rev().find(|c| c.open && c.kind == Some(kind)).ok_or(SendError::NotOpen)?;
        let (_, association) = self.association.as_mut().ok_or(SendError::NotOpen)?;
        let mut stream = association.stream(channel.stream).map_err(|_| SendError::NotOpen)?;
        let waiting = stream.buffered_amount().map_err(|_| SendError::NotOpen)?;
        let room = match kind {
            DataKind::Reliable => RELIABLE_BUFFER_BYTES_MAX,
            DataKind::Lossy | DataKind::Track => LOSSY_BUFFER_BYTES_MAX,
        };
        if waiting + payload.len() > room {
            if kind == DataKind::Reliable {
                return Err(SendError::Full(waiting));
            }
            counters.messages_lossy_dropped += 1;
            return Ok(());
        }
        // SCTP has no empty messages: RFC 8831 section 6.6 sends one byte under another identifier.
        let written = if payload.is_empty() {
            stream.write_with_ppi(&[0], Ppid::BinaryEmpty)
        } else {
            stream.write_with_ppi(payload, Ppid::Binary)
        };
        written.map_err(|_| SendError::NotOpen)?;
        counters.messages_sent += 1;
        Ok(())
    }

    /// Takes what SCTP has to say.
    pub(super) fn poll(&mut self, outputs: &mut impl Extend<Output>, counters: &mut Counters) {
        while let Some(event) = self.association.as_mut().and_then(|(_, association)| association.poll()) {
            match event {
                Event::Connected => self.established = true,
                Event::Stream(StreamEvent::Opened { .. }) => {
                    // Streams come into being with their first chunk; the library keeps a list that wants emptying.
                    if let Some((_, association)) = &mut self.association {
                        while association.accept_stream().is_some() {}
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(id, outputs, counters),
                Event::Stream(StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. }) => {
                    self.finished(id, outputs);
                }
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => {
                    counters.associations_lost += 1;
                    return self.lost(outputs);
                }
                _ => {}
            }
        }
        if let Some((handle, association)) = &mut self.association {
            while let Some(event) = association.poll_endpoint_event() {
                if let Some(event) = self.endpoint.as_mut().and_then(|e| e.handle_event(*handle, event)) {
                    association.handle_event(event);
                }
            }
        }
        if self.established && !std::mem::replace(&mut self.opened, self.established) {
            if self.is_resumed() {
                self.resume(outputs);
            } else if self.wanted.is_some_and(|data| data.opened_by_us) {
                self.open_ours();
            }
        }
    }

    fn open_ours(&mut self) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        for (kind, stream) in [(DataKind::Reliable, 1), (DataKind::Lossy, 3), (DataKind::Track, 5)] {
            let Ok(mut opened) = association.open_stream(stream, Ppid::Binary) else {
                continue;
            };
            // Written before the reliability is set, as DATA_CHANNEL_OPEN itself must arrive (RFC 8832 section 6).
            if opened.write_with_ppi(&dcep::open(kind), Ppid::Dcep).is_ok() {
                self.channels.push(Channel {
                    stream,
                    kind: Some(kind),
                    reliability: Reliability::of(kind),
                    open: false,
                });
            }
        }
    }

    fn read(&mut self, id: u16, outputs: &mut impl Extend<Output>, counters: &mut Counters) {
        loop {
            let Some((_, association)) = &mut self.association else {
                return;
            };
            let Ok(mut stream) = association.stream(id) else {
                return;
            };
            let Ok(Some(chunks)) = stream.read_sctp() else {
                return;
            };
            if chunks.len() > MESSAGE_BYTES_MAX {
                counters.messages_too_long += 1;
                continue;
            }
            let mut payload = vec![0; chunks.len()];
            let length = chunks.read(&mut payload).unwrap_or(0);
            payload.truncate(length);
            match chunks.ppi {
                Ppid::Dcep => self.establish(id, &payload, outputs, counters),
                Ppid::String | Ppid::Binary => self.deliver(id, payload, outputs, counters),
                Ppid::StringEmpty | Ppid::BinaryEmpty => self.deliver(id, Vec::new(), outputs, counters),
                Ppid::Unknown => counters.messages_unknown += 1,
            }
        }
    }

    fn deliver(&self, id: u16, payload: Vec<u8>, outputs: &mut impl Extend<Output>, counters: &mut Counters) {
        match self.channels.iter().find(|c| c.stream == id).and_then(|c| c.kind) {
            Some(_) if !self.wanted.is_some_and(|d| d.may_send) => counters.messages_forbidden += 1,
            Some(kind) => {
                counters.messages_received += 1;
                outputs.extend([Output::Message { kind, payload }]);
            }
            None => counters.messages_unknown += 1,
        }
    }

    /// A message of the establishment protocol.
    fn establish(&mut self, id: u16, payload: &[u8], outputs: &mut impl Extend<Output>, counters: &mut Counters) {
        let known = self.channels.iter().position(|c| c.stream == id);
        let channel = match (dcep::parse(payload), known) {
            (Some(dcep::Message::Open(open)), None) if self.channels.len() < CHANNELS_MAX => {
                let kind = DataKind::from_label(open.label);
                self.channels.push(Channel { stream: id, kind, reliability: open.reliability, open: true });
                self.acknowledge(id);
                self.channels.last()
            }
            (Some(dcep::Message::Ack), Some(index)) if !self.channels[index].open => {
                self.channels[index].open = true;
                self.channels.get(index)
            }
            _ => {
                counters.channels_refused += 1;
                None
            }
        };
        let Some(channel) = channel else {
            return;
        };
        let Reliability { unordered, kind, value } = channel.reliability;
        if let Some(mut stream) = self.association.as_mut().and_then(|(_, a)| a.stream(id).ok()) {
            // The stream exists, as something was just read from it.
            let _ = stream.set_reliability_params(unordered, kind, value);
        }
        outputs.extend(channel.kind.map(|kind| Output::ChannelOpen(kind, id)));
    }

    fn acknowledge(&mut self, id: u16) {
        if let Some(mut stream) = self.association.as_mut().and_then(|(_, a)| a.stream(id).ok()) {
            // Fails only if the association is going down, which is reported as such.
            let _ = stream.write_with_ppi(&dcep::ACK, Ppid::Dcep);
        }
    }

    fn finished(&mut self, id: u16, outputs: &mut impl Extend<Output>) {
        let Some(index) = self.channels.iter().position(|c| c.stream == id) else {
            return;
        };
        let channel = self.channels.remove(index);
        let still_open = self.channels.iter().any(|c| c.open && c.kind == channel.kind);
        outputs.extend(channel.kind.filter(|_| channel.open && !still_open).map(Output::ChannelClosed));
    }

    /// SCTP is gone and does not come back; media goes on without it.
    fn lost(&mut self, outputs: &mut impl Extend<Output>) {
        while let Some(channel) = self.channels.first() {
            self.finished(channel.stream, outputs);
        }
        self.endpoint = None;
        self.association = None;
        self.established = false;
    }
}
