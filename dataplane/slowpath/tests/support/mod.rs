//! A WebRTC client made of the bare protocol libraries, and a network between it and a [`Peer`] that loses, delays,
//! reorders and duplicates by a seed.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dimpl::{Dtls, DtlsCertificate, SrtpProfile};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, StreamEvent, TransportConfig,
};
use sluice_messages::{Data, Fingerprint};
use sluice_slowpath::{
    Certificate, Peer,
    peer::{Input, Output, PeerConfig},
};
use sluice_wire::Micros;

/// Which DTLS a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    V12,
    V13,
    Auto,
}

/// A message a client got: stream, payload protocol, payload.
pub(crate) type Received = (u16, Ppid, Vec<u8>);

pub(crate) struct Client {
    epoch: Instant,
    pub(crate) dtls: Dtls,
    pub(crate) sent: VecDeque<Vec<u8>>,
    wake: Instant,
    pub(crate) exported: Option<(Vec<u8>, SrtpProfile)>,
    pub(crate) server_certificate: Option<Vec<u8>>,
    pub(crate) connected: bool,
    pub(crate) error: bool,
    endpoint: Endpoint,
    pub(crate) association: Option<(AssociationHandle, Association)>,
    pub(crate) established: bool,
    pub(crate) received: Vec<Received>,
    pub(crate) reset: Vec<u16>,
    /// Streams whose DATA_CHANNEL_OPEN came, possibly before the association was established on this side.
    unacknowledged: Vec<u16>,
    /// Reads nothing from SCTP, and so keeps its window shut.
    pub(crate) stalled: bool,
}

impl Client {
    pub(crate) fn new(epoch: Instant, version: Version, certificate: &Certificate) -> Client {
        let config =
            dimpl::Config::builder().flight_start_rto(Duration::from_millis(250)).flight_retries(12).build().unwrap();
        let certificate =
            DtlsCertificate { certificate: certificate.der().to_vec(), private_key: certificate.key_der().to_vec() };
        let mut dtls = match version {
            Version::V12 => Dtls::new_12(Arc::new(config), certificate, epoch),
            Version::V13 => Dtls::new_13(Arc::new(config), certificate, epoch),
            Version::Auto => Dtls::new_auto(Arc::new(config), certificate, epoch),
        };
        dtls.set_active(true);
        Client {
            epoch,
            dtls,
            sent: VecDeque::new(),
            wake: epoch,
            exported: None,
            server_certificate: None,
            connected: false,
            error: false,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::new()), None),
            association: None,
            established: false,
            received: Vec::new(),
            reset: Vec::new(),
            unacknowledged: Vec::new(),
            stalled: false,
        }
    }

    fn at(&self, now: Micros) -> Instant {
        self.epoch + Duration::from_micros(now.0)
    }

    pub(crate) fn datagram(&mut self, now: Micros, datagram: &[u8]) {
        let at = self.at(now);
        self.error |= self.dtls.handle_timeout(at).is_err();
        self.error |= self.dtls.handle_packet(datagram).is_err();
        self.turn(now);
    }

    pub(crate) fn timeout(&mut self, now: Micros) {
        let at = self.at(now);
        self.error |= self.dtls.handle_timeout(at).is_err();
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(at);
        }
        self.turn(now);
    }

    pub(crate) fn wake(&self) -> Micros {
        if self.error {
            return Micros::NEVER;
        }
        let sctp = self.association.as_ref().and_then(|(_, a)| a.poll_timeout());
        let at = sctp.map_or(self.wake, |sctp| sctp.min(self.wake));
        Micros(at.saturating_duration_since(self.epoch).as_nanos().div_ceil(1000) as u64)
    }

    /// Opens a channel as a browser does and returns whether SCTP took it.
    pub(crate) fn open(&mut self, now: Micros, stream: u16, label: &str, unordered: bool) {
        let mut open = vec![0x03, if unordered { 0x81 } else { 0 }, 1, 0, 0, 0, 0, 0];
        open.extend_from_slice(&(label.len() as u16).to_be_bytes());
        open.extend_from_slice(&[0, 0]);
        open.extend_from_slice(label.as_bytes());
        let (_, association) = self.association.as_mut().unwrap();
        let mut opened = association.open_stream(stream, Ppid::Binary).unwrap();
        opened.write_with_ppi(&open, Ppid::Dcep).unwrap();
        if unordered {
            opened.set_reliability_params(true, ReliabilityType::Rexmit, 0).unwrap();
        }
        self.turn(now);
    }

    pub(crate) fn write(&mut self, now: Micros, stream: u16, ppid: Ppid, payload: &[u8]) {
        let (_, association) = self.association.as_mut().unwrap();
        association.stream(stream).unwrap().write_with_ppi(payload, ppid).unwrap();
        self.turn(now);
    }

    pub(crate) fn close_channel(&mut self, now: Micros, stream: u16) {
        let (_, association) = self.association.as_mut().unwrap();
        association.stream(stream).unwrap().close().unwrap();
        self.turn(now);
    }

    /// Sends bytes inside DTLS as they are.
    pub(crate) fn raw(&mut self, now: Micros, bytes: &[u8]) {
        self.dtls.send_application_data(bytes).unwrap();
        self.turn(now);
    }

    pub(crate) fn turn(&mut self, now: Micros) {
        let at = self.at(now);
        loop {
            self.drain(at);
            while let Some(event) = self.association.as_mut().and_then(|(_, a)| a.poll()) {
                match event {
                    Event::Connected => self.established = true,
                    Event::Stream(StreamEvent::Readable { id }) if !self.stalled => self.read(id),
                    Event::Stream(StreamEvent::Finished { id }) => self.reset.push(id),
                    _ => {}
                }
            }
            if let Some((_, association)) = self.association.as_mut().filter(|_| self.established) {
                for id in self.unacknowledged.drain(..) {
                    association.stream(id).unwrap().write_with_ppi(&[2], Ppid::Dcep).unwrap();
                }
            }
            let transmit = self.association.as_mut().and_then(|(_, a)| a.poll_transmit(at));
            let Some(Payload::RawEncode(datagrams)) = transmit.map(|t| t.payload) else {
                return;
            };
            for datagram in datagrams {
                self.dtls.send_application_data(&datagram).unwrap();
                self.drain(at);
            }
        }
    }

    fn read(&mut self, id: u16) {
        let (_, association) = self.association.as_mut().unwrap();
        while let Ok(Some(chunks)) = association.stream(id).and_then(|mut s| s.read_sctp()) {
            let mut payload = vec![0; chunks.len()];
            chunks.read(&mut payload).unwrap();
            if chunks.ppi == Ppid::Dcep && payload[0] == 3 {
                self.unacknowledged.push(id);
            }
            self.received.push((id, chunks.ppi, payload));
        }
    }

    fn drain(&mut self, at: Instant) {
        let mut scratch = vec![0; 1 << 15];
        loop {
            match self.dtls.poll_output(&mut scratch) {
                dimpl::Output::Packet(packet) => self.sent.push_back(packet.to_vec()),
                dimpl::Output::Timeout(wake) => {
                    self.wake = wake;
                    return;
                }
                dimpl::Output::PeerCert(der) => self.server_certificate = Some(der.to_vec()),
                dimpl::Output::KeyingMaterial(keys, profile) => self.exported = Some((keys.to_vec(), profile)),
                dimpl::Output::Connected => {
                    self.connected = true;
                    let mut config = ClientConfig::new();
                    config.transport = Arc::new(
                        TransportConfig::default()
                            .with_max_init_retransmits(None)
                            .with_max_send_message_size(1 << 20)
                            .with_max_receive_buffer_size(256 << 10),
                    );
                    let server: SocketAddr = "10.0.0.1:5000".parse().unwrap();
                    self.association = Some(self.endpoint.connect(config, server).unwrap());
                }
                dimpl::Output::ApplicationData(datagram) => {
                    let datagram = Bytes::copy_from_slice(datagram);
                    let from = "10.0.0.1:5000".parse().unwrap();
                    if let Some((_, DatagramEvent::AssociationEvent(event))) =
                        self.endpoint.handle(at, from, None, None, datagram)
                        && let Some((_, association)) = &mut self.association
                    {
                        association.handle_event(event);
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) delay_us: u64,
    pub(crate) jitter_us: u64,
}

impl Weather {
    pub(crate) const FINE: Weather = Weather { loss: 0.0, duplicate: 0.0, delay_us: 10_000, jitter_us: 0 };
}

enum To {
    Peer,
    Client,
}

/// A peer and a client with a network between them.
pub(crate) struct World {
    pub(crate) now: Micros,
    pub(crate) peer: Peer,
    pub(crate) client: Client,
    pub(crate) outputs: Vec<Output>,
    pub(crate) weather: Weather,
    /// Longest datagram seen in either direction.
    pub(crate) datagram_bytes_max: usize,
    random: StdRng,
    flying: BTreeMap<(u64, u64), (To, Vec<u8>)>,
    number: u64,
}

impl World {
    /// A client with certificate `shown` for a peer that expects `expected`.
    pub(crate) fn new(version: Version, data: Option<Data>, weather: Weather, seed: u64) -> World {
        let shown = Certificate::generate().unwrap();
        let expected = shown.fingerprint();
        World::with(version, data, weather, seed, &shown, expected)
    }

    pub(crate) fn with(
        version: Version,
        data: Option<Data>,
        weather: Weather,
        seed: u64,
        shown: &Certificate,
        expected: Fingerprint,
    ) -> World {
        let epoch = Instant::now();
        let ours = Certificate::generate().unwrap();
        let config = PeerConfig { certificate: &ours, remote_fingerprint: expected, data, epoch, now: Micros(0) };
        let mut world = World {
            now: Micros(0),
            peer: Peer::new(config),
            client: Client::new(epoch, version, shown),
            outputs: Vec::new(),
            weather,
            datagram_bytes_max: 0,
            random: StdRng::seed_from_u64(seed),
            flying: BTreeMap::new(),
            number: 0,
        };
        world.client.timeout(Micros(0));
        world.collect();
        world
    }

    /// Gives the peer an input and sends off what comes out.
    pub(crate) fn input(&mut self, input: Input<'_>) -> Result<(), sluice_slowpath::peer::SendError> {
        let result = self.peer.input(self.now, input);
        self.collect();
        result
    }

    /// Runs until `done`, at most `limit` of invented time. True if done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.collect();
            if done(self) {
                return true;
            }
            let arrival = self.flying.keys().next().map_or(Micros::NEVER, |&(at, _)| Micros(at));
            let next = arrival.min(self.peer.wake()).min(self.client.wake());
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            if arrival <= self.now {
                let (_, (to, datagram)) = self.flying.pop_first().unwrap();
                match to {
                    To::Peer => self.peer.input(self.now, Input::Datagram(&datagram)).unwrap(),
                    To::Client => self.client.datagram(self.now, &datagram),
                }
                continue;
            }
            if self.peer.wake() <= self.now {
                self.peer.input(self.now, Input::Timeout).unwrap();
            }
            if self.client.wake() <= self.now {
                self.client.timeout(self.now);
            }
        }
    }

    fn collect(&mut self) {
        while let Some(output) = self.peer.poll() {
            match output {
                Output::Datagram(datagram) => self.send(false, datagram),
                other => self.outputs.push(other),
            }
        }
        while let Some(datagram) = self.client.sent.pop_front() {
            self.send(true, datagram);
        }
    }

    fn send(&mut self, to_peer: bool, datagram: Vec<u8>) {
        self.datagram_bytes_max = self.datagram_bytes_max.max(datagram.len());
        let copies = 1 + usize::from(self.random.random_bool(self.weather.duplicate));
        for _ in 0..copies {
            if self.random.random_bool(self.weather.loss) {
                continue;
            }
            let jitter = self.random.random_range(0..=self.weather.jitter_us);
            self.number += 1;
            let to = if to_peer { To::Peer } else { To::Client };
            self.flying.insert((self.now.0 + self.weather.delay_us + jitter, self.number), (to, datagram.clone()));
        }
    }
}
