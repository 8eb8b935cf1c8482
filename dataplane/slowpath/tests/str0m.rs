//! An independent WebRTC client (str0m: its own ICE, SRTP and data channels) against agent and peer, without a socket.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use sluice_frames::Route;
use sluice_messages::{Data, DataKind, Fingerprint, Ice, IceCredentials, TransportId};
use sluice_slowpath::{
    Agent, Certificate, Peer,
    ice::{Config, Outcome, REPLY_BYTES_MAX},
    peer::{Input, Output, PeerConfig},
};
use sluice_wire::Micros;
use str0m::{
    Candidate, Event, IceCreds, Rtc,
    channel::{ChannelConfig, Reliability},
    config::DtlsVersion,
    net::{Protocol, Receive},
};

const TRANSPORT: TransportId = TransportId(1);

/// One call: a str0m client and our side, in invented time.
struct Call {
    epoch: Instant,
    now: Micros,
    rtc: Rtc,
    rtc_wake: Instant,
    events: Vec<Event>,
    agent: Agent,
    peer: Peer,
    outputs: Vec<Output>,
    to_us: Vec<Vec<u8>>,
    to_client: Vec<Vec<u8>>,
    client: SocketAddr,
    server: SocketAddr,
}

impl Call {
    fn new(version: DtlsVersion, data: Data) -> Call {
        let epoch = Instant::now();
        let (client, server) = ("192.0.2.2:5000".parse().unwrap(), "192.0.2.1:7882".parse().unwrap());
        let crypto = std::sync::Arc::new(str0m::crypto::from_feature_flags());
        let mut rtc = Rtc::builder().set_crypto_provider(crypto).set_dtls_version(version).build(epoch);
        rtc.add_local_candidate(Candidate::host(client, "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(server, "udp").unwrap());

        let certificate = Certificate::generate().unwrap();
        let local = IceCredentials { ufrag: "serverufrag".into(), pwd: "a-password-of-the-server".into() };
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(IceCreds { ufrag: local.ufrag.clone(), pass: local.pwd.clone() });
        api.set_remote_fingerprint(str0m::crypto::Fingerprint {
            hash_func: "sha-256".into(),
            bytes: certificate.fingerprint().sha256.to_vec(),
        });
        let shown = api.local_dtls_fingerprint().bytes.clone();
        api.start_dtls(true).unwrap();
        api.start_sctp(true);

        let mut agent = Agent::new(Config::default());
        agent.put(TRANSPORT, &Ice { local, remote: None, previous_local: None }).unwrap();
        let config = PeerConfig {
            certificate: &certificate,
            remote_fingerprint: Fingerprint { sha256: shown.try_into().unwrap() },
            data: Some(data),
            epoch,
            now: Micros(0),
        };
        Call {
            epoch,
            now: Micros(0),
            rtc,
            rtc_wake: epoch,
            events: Vec::new(),
            agent,
            peer: Peer::new(config),
            outputs: Vec::new(),
            to_us: Vec::new(),
            to_client: Vec::new(),
            client,
            server,
        }
    }

    /// Runs until `done`, at most ten seconds of invented time. True if done.
    fn run(&mut self, mut done: impl FnMut(&mut Call) -> bool) -> bool {
        let end = self.now + Duration::from_secs(10);
        while self.now < end {
            self.turn();
            if done(self) {
                return true;
            }
            self.now = self.now + Duration::from_millis(5);
        }
        false
    }

    fn turn(&mut self) {
        let at = self.epoch + Duration::from_micros(self.now.0);
        for datagram in std::mem::take(&mut self.to_client) {
            let receive = Receive::new(Protocol::Udp, self.server, self.client, &datagram).unwrap();
            self.rtc.handle_input(str0m::Input::Receive(at, receive)).unwrap();
            self.poll_client();
        }
        if self.rtc_wake <= at {
            self.rtc.handle_input(str0m::Input::Timeout(at)).unwrap();
        }
        self.poll_client();
        for datagram in std::mem::take(&mut self.to_us) {
            self.receive(&datagram);
        }
        if self.peer.wake() <= self.now {
            self.peer.input(self.now, Input::Timeout).unwrap();
        }
        self.poll_peer();
        while self.agent.poll(self.now).is_some() {}
    }

    /// What a worker does with a datagram.
    fn receive(&mut self, datagram: &[u8]) {
        let from = Route { socket: 0, peer: self.client };
        match datagram[0] {
            0..=3 => {
                let mut out = [0; REPLY_BYTES_MAX];
                let answer = self.agent.input(self.now, datagram, from, &mut out);
                assert!(matches!(answer.outcome, Outcome::Accepted(_)), "{answer:?}");
                self.to_client.extend(answer.reply.map(|bytes| out[..bytes].to_vec()));
            }
            20..=63 => {
                assert_eq!(self.agent.by_route(&from), Some(TRANSPORT), "DTLS comes after a check");
                self.peer.input(self.now, Input::Datagram(datagram)).unwrap();
                self.poll_peer();
            }
            _ => {}
        }
    }

    fn poll_client(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                str0m::Output::Timeout(at) => {
                    self.rtc_wake = at;
                    return;
                }
                str0m::Output::Transmit(transmit) => self.to_us.push(transmit.contents.to_vec()),
                str0m::Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn poll_peer(&mut self) {
        while let Some(output) = self.peer.poll() {
            match output {
                Output::Datagram(datagram) => self.to_client.push(datagram),
                other => self.outputs.push(other),
            }
        }
    }

    fn open_kinds(&self) -> usize {
        self.outputs.iter().filter(|o| matches!(o, Output::ChannelOpen(..))).count()
    }
}

#[test]
fn a_subscriber_gets_the_channels_that_we_open() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13, DtlsVersion::Auto] {
        let mut call = Call::new(
            version,
            Data { opened_by_us: true, may_send: false, delivers: true, streams: sluice_messages::Streams::NONE },
        );
        assert!(call.run(|c| c.open_kinds() == 3), "{version:?}: {:?}", call.outputs);
        assert!(matches!(call.outputs[0], Output::Connected(_)), "keys come first");
        assert!(call.rtc.is_connected());
        let labels = |c: &Call| {
            let label = |e: &Event| if let Event::ChannelOpen(_, label) = e { Some(label.clone()) } else { None };
            c.events.iter().filter_map(label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&call), ["_reliable", "_lossy", "_data_track"]);
        let now = call.now;
        call.peer.input(now, Input::Send { kind: DataKind::Lossy, payload: b"to the client" }).unwrap();
        call.poll_peer();
        let arrived = |c: &mut Call| {
            c.events.iter().any(|e| matches!(e, Event::ChannelData(d) if d.data == b"to the client" && d.binary))
        };
        assert!(call.run(arrived), "{version:?}");
    }
}

#[test]
fn a_publisher_opens_its_channels_and_sends() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let mut call = Call::new(
            version,
            Data { opened_by_us: false, may_send: true, delivers: false, streams: sluice_messages::Streams::NONE },
        );
        let lossy = Reliability::MaxRetransmits { retransmits: 0 };
        let channels =
            [("_reliable", true, Reliability::Reliable), ("_lossy", false, lossy), ("_data_track", false, lossy)];
        let ids = channels.map(|(label, ordered, reliability)| {
            let config = ChannelConfig { label: label.into(), ordered, reliability, ..ChannelConfig::default() };
            call.rtc.direct_api().create_data_channel(config)
        });
        assert!(call.run(|c| c.open_kinds() == 3), "{version:?}: {:?}", call.outputs);
        for (i, id) in ids.into_iter().enumerate() {
            assert!(call.run(|c| c.rtc.channel(id).is_some()), "{version:?}: acknowledged");
            assert!(call.rtc.channel(id).unwrap().write(true, &vec![i as u8; 20_000]).unwrap());
        }
        let received = |c: &mut Call| c.outputs.iter().filter(|o| matches!(o, Output::Message { .. })).count() == 3;
        assert!(call.run(received), "{version:?}");
        for (kind, byte) in [(DataKind::Reliable, 0), (DataKind::Lossy, 1), (DataKind::Track, 2)] {
            let whole = vec![byte; 20_000];
            let arrived =
                |o: &Output| matches!(o, Output::Message { kind: k, payload } if *k == kind && *payload == whole);
            assert!(call.outputs.iter().any(arrived), "{kind:?}");
        }
    }
}
