//! Whole clients (an independent WebRTC stack): checks, DTLS, data channels, and what goes between participants.

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use livekit_protocol::{DataPacket, UserPacket, data_packet};
use prost::Message;
use sluice_messages::{
    Data, DataKind, Down, Entry, Event, Failure, Fingerprint, Op, SendData, Transport, TransportState,
};
use sluice_node::Node;
use str0m::{
    Candidate, IceCreds, Input, Output, Rtc,
    channel::{ChannelConfig, ChannelId, Reliability},
    net::{Protocol, Receive},
};
use support::*;

/// One participant with one transport.
struct Person {
    rtc: Rtc,
    client: Client,
    address: SocketAddr,
    transport: Transport,
    channels: HashMap<String, ChannelId>,
    labels: HashMap<ChannelId, String>,
    received: Vec<(String, Vec<u8>)>,
    is_connected: bool,
}

impl Person {
    /// Knows everything that descriptions would have said.
    fn new(node: &Node, id: u64, data: Data) -> Person {
        let client = Client::new(node);
        client.socket.set_nonblocking(true).unwrap();
        let address = client.socket.local_addr().unwrap();
        let mut rtc = Rtc::builder().build(Instant::now());
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

    fn drive(&mut self) {
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
                Output::Event(_) => {}
                Output::Timeout(_) => break,
            }
        }
        let mut bytes = [0; 2048];
        while let Ok((length, source)) = self.client.socket.recv_from(&mut bytes) {
            let receive = Receive::new(Protocol::Udp, source, self.address, &bytes[..length]).unwrap();
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
        }
        self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
    }

    fn is_ready(&self) -> bool {
        self.is_connected && self.channels.len() == 3
    }

    fn say(&mut self, label: &str, packet: &DataPacket) {
        let id = self.channels[label];
        assert!(self.rtc.channel(id).unwrap().write(true, &packet.encode_to_vec()).unwrap());
    }

    /// Sender, channel and text of all that came.
    fn heard(&self) -> Vec<(String, String, String)> {
        let told = |(label, bytes): &(String, Vec<u8>)| {
            let packet = DataPacket::decode(&bytes[..]).unwrap();
            let Some(data_packet::Value::User(user)) = packet.value else { panic!("not a user packet") };
            (packet.participant_identity, label.clone(), String::from_utf8(user.payload).unwrap())
        };
        self.received.iter().map(told).collect()
    }
}

/// Lets all clients live until something is so.
fn live(people: &mut [Person], what: &str, mut until: impl FnMut(&mut [Person]) -> bool) {
    let start = Instant::now();
    while !until(people) {
        people.iter_mut().for_each(Person::drive);
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn text(text: &str, to: &[&str]) -> DataPacket {
    DataPacket {
        destination_identities: to.iter().map(|identity| (*identity).to_owned()).collect(),
        participant_identity: "somebody else".into(),
        value: Some(data_packet::Value::User(UserPacket { payload: text.into(), ..Default::default() })),
        ..Default::default()
    }
}

fn heard(from: &str, label: &str, text: &str) -> (String, String, String) {
    (from.into(), label.into(), text.into())
}

const CLIENT_OPENS: Data = Data { opened_by_us: false, may_send: true, delivers: true };
const NODE_OPENS: Data = Data { opened_by_us: true, may_send: true, delivers: true };

#[tokio::test(flavor = "multi_thread")]
async fn participants_hear_each_other_and_control() {
    let (node, _control, mut link) = pair(2).await;
    let silenced = Data { may_send: false, ..CLIENT_OPENS };
    let mut people: Vec<Person> =
        [(1, CLIENT_OPENS), (2, NODE_OPENS), (3, silenced)].map(|(id, data)| Person::new(&node, id, data)).into();
    let entries = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    link.snapshot(1, entries).await;
    live(&mut people, "everybody connects", |people| people.iter().all(Person::is_ready));
    let mut waiting: Vec<_> = people.iter().map(|person| person.transport.id).collect();
    link.event(|event| {
        if let Event::Transport { transport, state: TransportState::Connected } = event {
            waiting.retain(|id| id != transport);
        }
        waiting.is_empty().then_some(())
    })
    .await;

    people[0].say("_reliable", &text("to all", &[]));
    people[0].say("_reliable", &text("to two", &["person-2"]));
    people[1].say("_lossy", &text("lossy", &[]));
    people[2].say("_reliable", &text("not allowed", &[]));
    people[0].say("_reliable", &text("last", &[]));
    let all = SendData {
        to: people.iter().map(|person| person.transport.id).collect(),
        kind: DataKind::Reliable,
        payload: text("from control", &[]).encode_to_vec(),
    };
    live(&mut people, "everything arrives", |people| {
        people[0].received.len() == 1 && people[1].received.len() == 3 && people[2].received.len() == 3
    });
    let lossy = heard("person-2", "_lossy", "lossy");
    let first = heard("person-1", "_reliable", "to all");
    let last = heard("person-1", "_reliable", "last");
    assert_eq!(people[0].heard(), std::slice::from_ref(&lossy));
    let reliable = |person: &Person| -> Vec<_> { person.heard().into_iter().filter(|h| h.1 == "_reliable").collect() };
    assert_eq!(reliable(&people[1]), [first.clone(), heard("person-1", "_reliable", "to two"), last.clone()]);
    assert_eq!(reliable(&people[2]), [first, last]);
    assert!(people[2].heard().contains(&lossy));
    wait_for_counter(&node, "data_messages_forbidden", 1);

    link.say(Down::Send { epoch: 1, data: all }).await;
    live(&mut people, "control is heard", |people| {
        people.iter().all(|person| person.heard().iter().any(|(_, _, text)| text == "from control"))
    });

    // What nobody may send changes nothing for those who talk on.
    let channel = people[0].channels["_reliable"];
    people[0].rtc.channel(channel).unwrap().write(true, &[0xff; 900]).unwrap();
    people[0].say("_reliable", &text("still here", &[]));
    live(&mut people, "the call goes on", |people| {
        people[1].heard().contains(&heard("person-1", "_reliable", "still here"))
    });
    assert_eq!(counter(&node, "slow_drop_data_malformed"), 1);
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_that_comes_late_costs_nothing_and_a_wrong_one_fails() {
    let (node, _control, mut link) = pair(2).await;
    let mut people = vec![Person::new(&node, 1, CLIENT_OPENS), Person::new(&node, 2, CLIENT_OPENS)];
    let late = Transport { fingerprint: None, ..people[0].transport.clone() };
    let wrong = Transport { fingerprint: Some(Fingerprint { sha256: [9; 32] }), ..people[1].transport.clone() };
    link.snapshot(1, vec![Entry::Transport(late.clone()), Entry::Transport(wrong.clone())]).await;
    let start = Instant::now();
    live(&mut people, "checks pass without a fingerprint", |_| start.elapsed() > Duration::from_millis(200));
    let failed = Event::Transport { transport: wrong.id, state: TransportState::Failed(Failure::Fingerprint) };
    link.event(|event| (*event == failed).then_some(())).await;
    assert!(!people[0].is_connected);
    people.truncate(1);
    let known = Op::Put(Entry::Transport(people[0].transport.clone()));
    link.say(Down::Delta { epoch: 1, sequence: 1, ops: vec![known] }).await;
    live(&mut people, "the handshake goes on", |people| people[0].is_ready());
    let connected = Event::Transport { transport: late.id, state: TransportState::Connected };
    link.event(|event| (*event == connected).then_some(())).await;
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_and_slows_nobody() {
    let (node, _control, mut link) = pair(2).await;
    let mut people: Vec<Person> = [1, 2, 3].map(|id| Person::new(&node, id, CLIENT_OPENS)).into();
    let entries = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    link.snapshot(1, entries).await;
    live(&mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    let frozen = people.pop().unwrap();
    let long = "x".repeat(30_000);
    let (mut said, start) = (0, Instant::now());
    while counter(&node, "slow_closed_unread") == 0 {
        assert!(start.elapsed() < PATIENCE, "{:?}", node.counters());
        people[0].say("_reliable", &text(&long, &[]));
        said += 1;
        live(&mut people, "the other one hears everything", |people| people[1].received.len() == said);
    }
    assert!(counter(&node, "slow_drop_data_full") > 0);
    let failed = Event::Transport { transport: frozen.transport.id, state: TransportState::Failed(Failure::Dtls) };
    link.event(|event| (*event == failed).then_some(())).await;
    node.stop();
}
