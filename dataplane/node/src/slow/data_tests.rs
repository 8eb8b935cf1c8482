#![expect(deprecated, reason = "older clients use the fields inside the user packet")]

use livekit_protocol::{ActiveSpeakerUpdate, ChatMessage, UserPacket};
use proptest::prelude::*;

use super::*;

fn sender() -> Participant {
    Participant { sid: "PA_alice".into(), identity: "alice".into() }
}

fn bob() -> Participant {
    Participant { sid: "PA_bob".into(), identity: "bob".into() }
}

fn carol() -> Participant {
    Participant { sid: "PA_carol".into(), identity: "carol".into() }
}

fn packet(value: data_packet::Value) -> DataPacket {
    DataPacket { value: Some(value), ..Default::default() }
}

fn stamped(packet: &DataPacket) -> Stamped {
    stamp(&packet.encode_to_vec(), &sender()).unwrap()
}

#[test]
fn a_sender_cannot_pretend_to_be_somebody_else() {
    let forged = DataPacket {
        participant_identity: "bob".into(),
        participant_sid: "PA_bob".into(),
        sequence: 7,
        ..packet(data_packet::Value::User(UserPacket {
            participant_sid: "PA_bob".into(),
            participant_identity: "bob".into(),
            payload: b"hello".to_vec(),
            topic: Some("chat".into()),
            ..Default::default()
        }))
    };
    let seen = DataPacket::decode(&stamped(&forged).bytes[..]).unwrap();
    assert_eq!((seen.participant_identity.as_str(), seen.participant_sid.as_str()), ("alice", "PA_alice"));
    assert_eq!(seen.sequence, 7);
    let Some(data_packet::Value::User(user)) = seen.value else { panic!("still a user packet") };
    assert_eq!((user.participant_identity.as_str(), user.participant_sid.as_str()), ("alice", "PA_alice"));
    assert_eq!((user.payload.as_slice(), user.topic.as_deref()), (&b"hello"[..], Some("chat")));
}

#[test]
fn everybody_or_whom_the_sender_names() {
    let user = |user: UserPacket| packet(data_packet::Value::User(user));
    let check = |packet: DataPacket, for_bob: bool, for_carol: bool, intent: &str| {
        let destinations = stamped(&packet).destinations;
        assert_eq!((destinations.include(&bob()), destinations.include(&carol())), (for_bob, for_carol), "{intent}");
    };
    check(user(UserPacket::default()), true, true, "nobody named");
    let named = DataPacket { destination_identities: vec!["bob".into()], ..user(UserPacket::default()) };
    check(named, true, false, "by identity in the packet");
    let legacy = UserPacket { destination_identities: vec!["carol".into()], ..Default::default() };
    check(user(legacy), false, true, "by identity in the user packet");
    let legacy = UserPacket { destination_sids: vec!["PA_bob".into()], ..Default::default() };
    check(user(legacy), true, false, "by sid in the user packet");
    let both = UserPacket { destination_identities: vec!["carol".into()], ..Default::default() };
    let both = DataPacket { destination_identities: vec!["bob".into()], ..user(both) };
    check(both, true, false, "the packet's own field decides");
    let chat = DataPacket {
        destination_identities: vec!["nobody".into()],
        ..packet(data_packet::Value::ChatMessage(ChatMessage { message: "hi".into(), ..Default::default() }))
    };
    check(chat, false, false, "named, but not here");
}

#[test]
fn unknown_fields_reach_the_receivers() {
    let mut bytes =
        packet(data_packet::Value::User(UserPacket { payload: vec![1], ..Default::default() })).encode_to_vec();
    put_bytes(&mut bytes, 1000, b"from the future");
    put_varint(&mut bytes, 1001 << 3);
    put_varint(&mut bytes, 1 << 40);
    let stamped = stamp(&bytes, &sender()).unwrap().bytes;
    let mut future = Vec::new();
    put_bytes(&mut future, 1000, b"from the future");
    put_varint(&mut future, 1001 << 3);
    put_varint(&mut future, 1 << 40);
    assert!(stamped.windows(future.len()).any(|window| window == future), "{stamped:?}");
}

#[test]
fn what_is_not_for_clients_to_send_is_refused() {
    let long = UserPacket { payload: vec![0; PACKET_BYTES_MAX], ..Default::default() };
    let long = packet(data_packet::Value::User(long)).encode_to_vec();
    assert_eq!(stamp(&long, &sender()), Err(DataError::TooLong));
    assert_eq!(stamp(b"\xff\xff\xff", &sender()), Err(DataError::Malformed));
    let speaker = packet(data_packet::Value::Speaker(ActiveSpeakerUpdate::default())).encode_to_vec();
    assert_eq!(stamp(&speaker, &sender()), Err(DataError::Forged));
}

proptest! {
    /// Whatever is accepted is a data packet by the true sender, and nothing panics.
    #[test]
    fn garbage_is_refused_or_stamped(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(stamped) = stamp(&bytes, &sender()) {
            let seen = DataPacket::decode(&stamped.bytes[..]).unwrap();
            prop_assert_eq!(seen.participant_identity, "alice");
            prop_assert_eq!(seen.participant_sid, "PA_alice");
        }
    }
}
