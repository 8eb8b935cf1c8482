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
    CallId, Data, DataKind, DataSubscription, DataTrack, DataTrackId, Down, Entry, Event, Failure, Fingerprint, Key,
    Op, SendData, Transport, TransportState,
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

    /// Lives until nothing is left to do now.
    fn drive(&mut self) {
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
                Output::Event(_) => {}
                Output::Timeout(_) => break,
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.is_connected && self.channels.len() == 3
    }

    fn say(&mut self, label: &str, packet: &DataPacket) {
        self.write(label, &packet.encode_to_vec());
    }

    fn write(&mut self, label: &str, bytes: &[u8]) {
        let id = self.channels[label];
        assert!(self.rtc.channel(id).unwrap().write(true, bytes).unwrap());
    }

    /// Everything that came on `_data_track`.
    fn frames(&self) -> Vec<&[u8]> {
        self.received.iter().filter(|(label, _)| label == "_data_track").map(|(_, bytes)| &bytes[..]).collect()
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
fn live(node: &Node, people: &mut [Person], what: &str, mut until: impl FnMut(&mut [Person]) -> bool) {
    let start = Instant::now();
    while !until(people) {
        people.iter_mut().for_each(Person::drive);
        assert!(start.elapsed() < PATIENCE, "{what}: {:?}", node.counters());
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
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));
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
    live(&node, &mut people, "everything arrives", |people| {
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
    live(&node, &mut people, "control is heard", |people| {
        people.iter().all(|person| person.heard().iter().any(|(_, _, text)| text == "from control"))
    });

    // What nobody may send changes nothing for those who talk on.
    let channel = people[0].channels["_reliable"];
    people[0].rtc.channel(channel).unwrap().write(true, &[0xff; 900]).unwrap();
    people[0].say("_reliable", &text("still here", &[]));
    live(&node, &mut people, "the call goes on", |people| {
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
    live(&node, &mut people, "one fails, the other waits", |_| {
        counter(&node, "slow_closed") == 1 && counter(&node, "ice_accepted") >= 2
    });
    let failed = Event::Transport { transport: wrong.id, state: TransportState::Failed(Failure::Fingerprint) };
    link.event(|event| (*event == failed).then_some(())).await;
    assert!(!people[0].is_connected);
    people.truncate(1);
    let known = Op::Put(Entry::Transport(people[0].transport.clone()));
    link.say(Down::Delta { epoch: 1, sequence: 1, ops: vec![known] }).await;
    live(&node, &mut people, "the handshake goes on", |people| people[0].is_ready());
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
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    let frozen = people.pop().unwrap();
    let long = "x".repeat(30_000);
    let (mut said, start) = (0, Instant::now());
    while counter(&node, "slow_closed_unread") == 0 {
        assert!(start.elapsed() < PATIENCE, "{:?}", node.counters());
        people[0].say("_reliable", &text(&long, &[]));
        said += 1;
        live(&node, &mut people, "the other one hears everything", |people| people[1].received.len() == said);
    }
    assert!(counter(&node, "slow_drop_data_full") > 0);
    let failed = Event::Transport { transport: frozen.transport.id, state: TransportState::Failed(Failure::Dtls) };
    link.event(|event| (*event == failed).then_some(())).await;
    node.stop();
}

/// A packet of a data track: one frame of its own, with a timestamp that nobody may touch.
fn packet(handle: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x18, 0];
    packet.extend(handle.to_be_bytes());
    packet.extend([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
    packet.extend(payload);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn data_tracks_reach_their_subscribers_under_their_handles() {
    let (node, _control, mut link) = pair(2).await;
    let mut people: Vec<Person> =
        [(1, CLIENT_OPENS), (2, NODE_OPENS), (3, NODE_OPENS)].map(|(id, data)| Person::new(&node, id, data)).into();
    let id = |index: usize, people: &[Person]| people[index].transport.id;
    let track = |id, person, handle| {
        let publisher = sluice_messages::TransportId(person);
        Entry::DataTrack(DataTrack { id: DataTrackId(id), call: CallId(1), publisher, handle })
    };
    let subscription = |receiver, track, handle| {
        Entry::DataSubscription(DataSubscription { receiver, track: DataTrackId(track), handle })
    };
    let mut entries: Vec<Entry> = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    // Both publish under the same handle, and the second person knows the first one's track by another.
    entries.extend([track(1, 1, 7), track(2, 2, 7), subscription(id(1, &people), 1, 300)]);
    entries.push(subscription(id(0, &people), 2, 40_000));
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    people[0].write("_data_track", &packet(7, b"from one"));
    people[1].write("_data_track", &packet(7, b"from two"));
    live(&node, &mut people, "frames arrive", |people| {
        !people[0].frames().is_empty() && !people[1].frames().is_empty()
    });
    assert_eq!(people[0].frames(), [packet(40_000, b"from two")]);
    assert_eq!(people[1].frames(), [packet(300, b"from one")]);

    // What nobody publishes, or what is no packet, goes nowhere.
    people[0].write("_data_track", &packet(8, b"of no track"));
    people[2].write("_data_track", &packet(7, b"not the third person's"));
    people[0].write("_data_track", &[0xff; 20]);
    people[0].write("_data_track", &[0x18]);
    live(&node, &mut people, "they are counted", |_| {
        counter(&node, "slow_drop_data_track") == 2 && counter(&node, "slow_drop_data_malformed") == 2
    });

    // The third person comes in, the second one leaves the track, and a frame of many packets' size passes whole.
    let ops = vec![
        Op::Put(subscription(id(2, &people), 1, 1)),
        Op::Remove(Key::DataSubscription { receiver: id(1, &people), track: DataTrackId(1) }),
    ];
    link.say(Down::Delta { epoch: 1, sequence: 1, ops }).await;
    assert!(matches!(link.answer().await, sluice_messages::Up::Applied { sequence: 1, .. }));
    let long = vec![0x5a; 15_000];
    people[0].write("_data_track", &packet(7, &long));
    live(&node, &mut people, "the third person has it", |people| !people[2].frames().is_empty());
    assert_eq!(people[2].frames(), [packet(1, &long)]);
    assert_eq!(people[1].frames().len(), 1);

    // Unpublished is unpublished.
    let ops = vec![Op::Remove(Key::DataTrack(DataTrackId(1)))];
    link.say(Down::Delta { epoch: 1, sequence: 2, ops }).await;
    assert!(matches!(link.answer().await, sluice_messages::Up::Applied { sequence: 2, .. }));
    people[0].write("_data_track", &packet(7, b"too late"));
    live(&node, &mut people, "it is counted", |_| counter(&node, "slow_drop_data_track") == 3);
    assert!(people.iter().all(|person| person.frames().len() == 1));
    node.stop();
}
