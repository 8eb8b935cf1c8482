//! Whole clients on an independent WebRTC stack.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use livekit_protocol::{DataPacket, UserPacket, data_packet};
use prost::Message;
use sluice_messages::{Data, Fingerprint, Transport};
use sluice_node::Node;
use str0m::{
    Candidate, IceCreds, Input, Output, Rtc,
    channel::{ChannelConfig, ChannelId, Reliability},
    net::{Protocol, Receive},
    rtp::{RtpPacket, Ssrc},
};

use super::*;

pub const CLIENT_OPENS: Data =
    Data { opened_by_us: false, may_send: true, delivers: true, streams: sluice_messages::Streams::NONE };
pub const NODE_OPENS: Data =
    Data { opened_by_us: true, may_send: true, delivers: true, streams: sluice_messages::Streams::NONE };

/// One participant with one transport.
pub struct Person {
    pub rtc: Rtc,
    pub client: Client,
    pub address: SocketAddr,
    pub transport: Transport,
    pub channels: HashMap<String, ChannelId>,
    pub labels: HashMap<ChannelId, String>,
    pub received: Vec<(String, Vec<u8>)>,
    pub is_connected: bool,
    /// Media, in order of arrival.
    pub rtp: Vec<RtpPacket>,
    /// SSRCs of ours for which key frames were asked.
    pub asked: Vec<Ssrc>,
}

impl Person {
    /// Knows everything that descriptions would have said.
    pub fn new(node: &Node, id: u64, data: Data) -> Person {
        let client = Client::new(node);
        client.socket.set_nonblocking(true).unwrap();
        let address = client.socket.local_addr().unwrap();
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
        let mut transport = transport(id, 1, None, Some(data));
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap()).unwrap();
        rtc.add_remote_candidate(Candidate::host(node.bound()[0], "udp").unwrap());
        let mut api = rtc.direct_api();
        api.set_ice_controlling(true);
        let local = &transport.ice.local;
        api.set_remote_ice_credentials(IceCreds { ufrag: local.ufrag.clone(), pass: local.pwd.clone() });
        api.set_remote_fingerprint(str0m::crypto::Fingerprint {
            hash_func: "sha-256".into(),
            bytes: node.fingerprint().sha256.to_vec(),
        });
        let own = api.local_dtls_fingerprint().bytes.clone();
        transport.fingerprint = Some(Fingerprint { sha256: own.try_into().unwrap() });
        api.start_dtls(true).unwrap();
        api.start_sctp(true);
        let mut person = Person {
            rtc,
            client,
            address,
            transport,
            channels: HashMap::new(),
            labels: HashMap::new(),
            received: Vec::new(),
            is_connected: false,
            rtp: Vec::new(),
            asked: Vec::new(),
        };
        if !data.opened_by_us {
            for (label, ordered) in [("_reliable", true), ("_lossy", false), ("_data_track", false)] {
                let reliability =
                    if ordered { Reliability::Reliable } else { Reliability::MaxRetransmits { retransmits: 0 } };
                person.rtc.direct_api().create_data_channel(ChannelConfig {
                    label: label.into(),
                    ordered,
                    reliability,
                    ..ChannelConfig::default()
                });
            }
        }
        person
    }

    /// Lives until nothing is left to do now.
    pub fn drive(&mut self) {
        self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        self.speak();
        let mut bytes = [0; 2048];
        while let Ok((length, source)) = self.client.socket.recv_from(&mut bytes) {
            let receive = Receive::new(Protocol::Udp, source, self.address, &bytes[..length]).unwrap();
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
            self.speak();
        }
    }

    fn speak(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Transmit(transmit) => {
                    self.client.socket.send_to(&transmit.contents, transmit.destination).unwrap();
                }
                Output::Event(str0m::Event::Connected) => self.is_connected = true,
                Output::Event(str0m::Event::ChannelOpen(id, label)) => {
                    self.channels.insert(label.clone(), id);
                    self.labels.insert(id, label);
                }
                Output::Event(str0m::Event::ChannelData(data)) => {
                    self.received.push((self.labels[&data.id].clone(), data.data));
                }
                Output::Event(str0m::Event::RtpPacket(packet)) => self.rtp.push(packet),
                Output::Event(str0m::Event::KeyframeRequest(request)) => {
                    let stream = self.rtc.direct_api().stream_tx_by_mid(request.mid, request.rid).map(|s| s.ssrc());
                    self.asked.extend(stream);
                }
                Output::Event(_) => {}
                Output::Timeout(_) => break,
            }
        }
    }

    pub fn is_ready(&self) -> bool {
        self.is_connected && self.channels.len() == 3
    }

    pub fn say(&mut self, label: &str, packet: &DataPacket) {
        self.write(label, &packet.encode_to_vec());
    }

    pub fn write(&mut self, label: &str, bytes: &[u8]) {
        let id = self.channels[label];
        assert!(self.rtc.channel(id).unwrap().write(true, bytes).unwrap());
    }

    /// Everything that came on `_data_track`.
    pub fn frames(&self) -> Vec<&[u8]> {
        self.received.iter().filter(|(label, _)| label == "_data_track").map(|(_, bytes)| &bytes[..]).collect()
    }

    /// Sender, channel and text of all that came.
    pub fn heard(&self) -> Vec<(String, String, String)> {
        let told = |(label, bytes): &(String, Vec<u8>)| {
            let packet = DataPacket::decode(&bytes[..]).unwrap();
            let Some(data_packet::Value::User(user)) = packet.value else { panic!("not a user packet") };
            (packet.participant_identity, label.clone(), String::from_utf8(user.payload).unwrap())
        };
        self.received.iter().map(told).collect()
    }
}

/// Lets all clients live until something is so.
pub fn live(node: &Node, people: &mut [Person], what: &str, mut until: impl FnMut(&mut [Person]) -> bool) {
    let start = Instant::now();
    while !until(people) {
        people.iter_mut().for_each(Person::drive);
        assert!(start.elapsed() < PATIENCE, "{what}: {:?}", node.counters());
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn text(text: &str, to: &[&str]) -> DataPacket {
    DataPacket {
        destination_identities: to.iter().map(|identity| (*identity).to_owned()).collect(),
        participant_identity: "somebody else".into(),
        value: Some(data_packet::Value::User(UserPacket { payload: text.into(), ..Default::default() })),
        ..Default::default()
    }
}

pub fn heard(from: &str, label: &str, text: &str) -> (String, String, String) {
    (from.into(), label.into(), text.into())
}

/// A packet of a data track: one frame of its own, with a timestamp that nobody may touch.
pub fn packet(handle: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x18, 0];
    packet.extend(handle.to_be_bytes());
    packet.extend([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
    packet.extend(payload);
    packet
}
