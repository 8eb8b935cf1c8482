//! The ICE-lite agent as clients and strangers see it.

use std::{net::SocketAddr, time::Duration};

use aws_lc_rs::hmac;
use proptest::prelude::*;
use sluice_frames::Route;
use sluice_messages::{Ice, IceCredentials, TransportId};
use sluice_slowpath::ice::{
    Accepted, Agent, Answer, Config, Dropped, Event, Outcome, PutError, REPLY_BYTES_MAX, RESPONDER_BYTES_V4,
    RESPONDER_BYTES_V6, ROUTES_MAX, local_ufrag,
};
use sluice_wire::{
    Micros,
    stun::{Class, Message, Request, Role, TransactionId, write_request},
};

const ONE: TransportId = TransportId(1);
const TWO: TransportId = TransportId(2);
const SECOND: u64 = 1_000_000;

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.to_owned(), pwd: format!("password-of-{name}-xxxxxxxxxxxx") }
}

fn ice(name: &str) -> Ice {
    Ice { local: credentials(name), remote: None, previous_local: None }
}

fn route(address: &str) -> Route {
    Route { socket: 0, peer: address.parse().unwrap() }
}

fn port(port: u16) -> Route {
    Route { socket: 0, peer: SocketAddr::from(([192, 0, 2, 1], port)) }
}

/// An agent and the last answer's bytes.
struct Bench {
    agent: Agent,
    out: [u8; REPLY_BYTES_MAX],
}

#[derive(Clone, Copy)]
struct Check<'a> {
    to: &'a str,
    password_of: &'a str,
    nominate: bool,
    priority: u32,
    role: Role,
}

fn check(to: &str) -> Check<'_> {
    Check { to, password_of: to, nominate: false, priority: 100, role: Role::Controlling(7) }
}

fn written(check: Check<'_>) -> Vec<u8> {
    let mut bytes = [0; 256];
    let length = write_request(
        &mut bytes,
        &Request {
            transaction_id: TransactionId(*b"transaction!"),
            username: format!("{}:client", check.to).as_bytes(),
            password: credentials(check.password_of).pwd.as_bytes(),
            priority: check.priority,
            use_candidate: check.nominate,
            role: check.role,
        },
    )
    .unwrap();
    bytes[..length].to_vec()
}

impl Bench {
    fn new(config: Config, names: &[&str]) -> Bench {
        let mut agent = Agent::new(config);
        for (i, name) in names.iter().enumerate() {
            agent.put(TransportId(i as u64 + 1), &ice(name)).unwrap();
        }
        Bench { agent, out: [0; REPLY_BYTES_MAX] }
    }

    fn one() -> Bench {
        Bench::new(Config::default(), &["alfa"])
    }

    fn input(&mut self, now: u64, datagram: &[u8], from: Route) -> Answer {
        self.agent.input(Micros(now), datagram, from, &mut self.out)
    }

    fn check(&mut self, now: u64, check: Check<'_>, from: Route) -> Answer {
        self.input(now, &written(check), from)
    }

    /// A check that must pass.
    fn accepted(&mut self, now: u64, check: Check<'_>, from: Route) -> Accepted {
        let answer = self.check(now, check, from);
        match answer.outcome {
            Outcome::Accepted(accepted) => accepted,
            other => panic!("not accepted: {other:?}"),
        }
    }

    fn events(&mut self, now: u64) -> Vec<Event> {
        std::iter::from_fn(|| self.agent.poll(Micros(now))).collect()
    }
}

#[test]
fn a_check_is_answered_with_the_address_it_came_from() {
    for address in ["192.0.2.7:40000", "[2001:db8::7]:40000"] {
        let mut bench = Bench::one();
        let answer = bench.check(0, check("alfa"), route(address));
        let reply = Message::parse(&bench.out[..answer.reply.unwrap()]).unwrap();
        assert_eq!(reply.class, Class::Success);
        assert_eq!(reply.transaction_id, TransactionId(*b"transaction!"));
        assert_eq!(reply.mapped_address, Some(address.parse().unwrap()));
        assert!(reply.verify_integrity(credentials("alfa").pwd.as_bytes()), "made with the password of the request");
        assert!(reply.verify_fingerprint());
        assert_eq!(bench.agent.by_route(&route(address)), Some(ONE));
        assert_eq!(bench.agent.by_route(&Route { socket: 1, peer: route(address).peer }), None, "another socket");
    }
}

#[test]
fn what_does_not_authenticate_gets_no_answer_and_a_counter() {
    let cases: [(&str, Vec<u8>, Outcome); 5] = [
        (
            "the password of another",
            written(Check { password_of: "bravo", ..check("alfa") }),
            Outcome::Dropped(Dropped::IntegrityWrong),
        ),
        ("a user name that is not here", written(check("nobody")), Outcome::Foreign),
        ("a user name without a colon", username_only(b"alfa"), Outcome::Dropped(Dropped::Username)),
        ("no integrity", username_only(b"alfa:client"), Outcome::Dropped(Dropped::IntegrityMissing)),
        ("no STUN", vec![0; 64], Outcome::Dropped(Dropped::Malformed)),
    ];
    for (what, datagram, expected) in cases {
        let mut bench = Bench::new(Config::default(), &["alfa", "bravo"]);
        let answer = bench.input(0, &datagram, port(1));
        assert_eq!(answer, Answer { reply: None, outcome: expected }, "{what}");
        assert_eq!(bench.agent.by_route(&port(1)), None, "{what}");
        assert_eq!(bench.agent.counters().named().iter().map(|(_, n)| n).sum::<u64>(), 1, "{what} is counted once");
    }
}

/// A Binding request with USERNAME alone.
fn username_only(username: &[u8]) -> Vec<u8> {
    let mut value = username.to_vec();
    value.resize(username.len().next_multiple_of(4), 0);
    let mut bytes = vec![0, 1, 0, value.len() as u8 + 4, 0x21, 0x12, 0xa4, 0x42];
    bytes.extend_from_slice(b"transaction!");
    bytes.extend_from_slice(&[0, 6, 0, username.len() as u8]);
    bytes.extend_from_slice(&value);
    bytes
}

#[test]
fn every_flipped_bit_of_a_check_is_refused_without_an_answer() {
    let good = written(check("alfa"));
    // FINGERPRINT is the last 8 bytes. Its head is not protected: with another type it is an attribute to be ignored.
    for bit in (0..good.len() * 8).filter(|bit| !((good.len() - 8) * 8..(good.len() - 4) * 8).contains(bit)) {
        let mut bench = Bench::one();
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let answer = bench.input(0, &bad, port(1));
        assert!(!matches!(answer.outcome, Outcome::Accepted(_)), "bit {bit}");
        assert_eq!(bench.agent.by_route(&port(1)), None, "bit {bit}");
        assert!(answer.reply.is_none(), "bit {bit}");
    }
}

/// RFC 5769 section 2.1. Its sender is controlled, so a lite agent authenticates it and then refuses its role.
#[test]
fn the_sample_request_of_rfc_5769_authenticates() {
    let mut sample = vec![0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42];
    sample.extend_from_slice(&[0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
    sample.extend_from_slice(&[0x80, 0x22, 0x00, 0x10]);
    sample.extend_from_slice(b"STUN test client");
    sample.extend_from_slice(&[0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff]);
    sample.extend_from_slice(&[0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36]);
    sample.extend_from_slice(&[0x00, 0x06, 0x00, 0x09]);
    sample.extend_from_slice(b"evtj:h6vY   ");
    sample.extend_from_slice(&[0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56]);
    sample.extend_from_slice(&[0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2]);
    sample.extend_from_slice(&[0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf]);
    let mut bench = Bench::new(Config::default(), &[]);
    let local = IceCredentials { ufrag: "evtj".into(), pwd: "VOkJxbRl1RmTxUk/WvJxBt".into() };
    bench.agent.put(ONE, &Ice { local, remote: None, previous_local: None }).unwrap();
    assert_eq!(bench.input(0, &sample, port(1)).outcome, Outcome::Dropped(Dropped::RoleConflict));
}

#[test]
fn responses_and_indications_are_not_answered() {
    let mut bench = Bench::one();
    for kind in [[0x00, 0x11], [0x01, 0x01], [0x01, 0x11], [0x00, 0x03]] {
        let mut datagram = written(check("alfa"));
        datagram[..2].copy_from_slice(&kind);
        let answer = bench.input(0, &datagram, port(1));
        assert_eq!(answer, Answer { reply: None, outcome: Outcome::Dropped(Dropped::Method) });
    }
}

#[test]
fn a_client_that_believes_to_be_controlled_is_told_to_switch() {
    let mut bench = Bench::one();
    for tie_breaker in [0, u64::MAX] {
        let answer = bench.check(0, Check { role: Role::Controlled(tie_breaker), ..check("alfa") }, port(1));
        assert_eq!(answer.outcome, Outcome::Dropped(Dropped::RoleConflict));
        let reply = Message::parse(&bench.out[..answer.reply.unwrap()]).unwrap();
        assert_eq!((reply.class, reply.error_code), (Class::Error, Some(487)));
        assert!(reply.verify_integrity(credentials("alfa").pwd.as_bytes()));
    }
    assert_eq!(bench.agent.by_route(&port(1)), None);
}

#[test]
fn nomination_selects_and_before_it_the_newest_route_serves() {
    let mut bench = Bench::one();
    let nominate = Check { nominate: true, ..check("alfa") };
    assert!(bench.accepted(0, check("alfa"), port(1)).selected, "the first route serves provisionally");
    assert!(bench.accepted(1, check("alfa"), port(2)).selected, "the newest");
    assert!(!bench.accepted(2, check("alfa"), port(1)).selected, "but they do not alternate");
    assert!(bench.accepted(3, nominate, port(1)).selected);
    assert!(!bench.accepted(4, check("alfa"), port(3)).selected, "nominated beats new");
    assert_eq!(bench.agent.selected(ONE), Some(port(1)));
    assert!(bench.accepted(5, nominate, port(3)).selected, "a later nomination moves it");
    assert_eq!(bench.agent.routes(ONE).count(), 3);
}

#[test]
fn aggressive_nomination_does_not_flap() {
    let mut bench = Bench::one();
    let high = Check { nominate: true, priority: 200, ..check("alfa") };
    let low = Check { nominate: true, priority: 100, ..check("alfa") };
    bench.accepted(0, low, port(1));
    bench.accepted(1, high, port(2));
    let mut changes = 0;
    for turn in 1..10 {
        changes += u32::from(bench.accepted(turn * SECOND, low, port(1)).selected);
        changes += u32::from(bench.accepted(turn * SECOND + 1, high, port(2)).selected);
    }
    assert_eq!((changes, bench.agent.selected(ONE)), (0, Some(port(2))));
}

#[test]
fn a_client_whose_address_changed_is_followed() {
    let mut bench = Bench::one();
    let nominate = Check { nominate: true, ..check("alfa") };
    bench.accepted(0, nominate, port(1));
    let accepted = bench.accepted(SECOND, nominate, port(2));
    assert!(accepted.new_route && accepted.selected && !accepted.connected);
    assert_eq!(bench.agent.selected(ONE), Some(port(2)));
    assert_eq!(bench.agent.by_route(&port(1)), Some(ONE), "what is still on its way is taken");

    // A client that nominates once only: its old path is left when it has gone quiet.
    let mut bench = Bench::one();
    bench.accepted(0, nominate, port(1));
    assert!(!bench.accepted(2 * SECOND, check("alfa"), port(2)).selected);
    assert!(bench.accepted(6 * SECOND, check("alfa"), port(2)).selected);
}

#[test]
fn after_a_restart_the_old_credentials_serve_until_the_new_ones_did() {
    let mut bench = Bench::one();
    bench.accepted(0, check("alfa"), port(1));
    let restarted = Ice { previous_local: Some(credentials("alfa")), ..ice("bravo") };
    bench.agent.put(ONE, &restarted).unwrap();
    assert_eq!(bench.agent.by_route(&port(1)), Some(ONE), "media goes on");
    assert!(!bench.accepted(1, check("alfa"), port(1)).new_route, "consent with the old ones");
    assert!(bench.accepted(2, check("bravo"), port(2)).new_route);
    assert_eq!(bench.check(3, check("alfa"), port(1)).outcome, Outcome::Foreign, "the old ones are gone");
    bench.agent.put(ONE, &restarted).unwrap();
    assert_eq!(
        bench.check(4, check("alfa"), port(1)).outcome,
        Outcome::Foreign,
        "and a repeated row does not revive them"
    );
    assert!(!bench.accepted(5, check("bravo"), port(2)).new_route);
}

#[test]
fn without_checks_a_transport_is_disconnected_then_expired_and_comes_back() {
    let mut bench = Bench::one();
    assert!(bench.accepted(0, check("alfa"), port(1)).connected);
    assert_eq!(bench.events(6 * SECOND), [], "Firefox checks each 4 to 6 seconds");
    assert_eq!(bench.events(8 * SECOND), [Event::Disconnected { transport: ONE }]);
    assert_eq!(bench.events(9 * SECOND), [], "said once");
    assert!(bench.accepted(10 * SECOND, check("alfa"), port(1)).connected, "back");
    assert_eq!(bench.events(18 * SECOND), [Event::Disconnected { transport: ONE }]);
    assert_eq!(
        bench.events(41 * SECOND),
        [Event::Unrouted { transport: ONE, route: port(1) }, Event::Expired { transport: ONE }]
    );
    assert_eq!(bench.agent.by_route(&port(1)), None);
    assert_eq!(bench.agent.selected(ONE), None);
    assert_eq!(bench.events(80 * SECOND), []);
    let accepted = bench.accepted(81 * SECOND, check("alfa"), port(2));
    assert!(accepted.connected && accepted.selected);
}

#[test]
fn a_dead_route_is_forgotten_while_another_lives() {
    let mut bench = Bench::one();
    let nominate = Check { nominate: true, ..check("alfa") };
    bench.accepted(0, nominate, port(1));
    for second in 1..40 {
        bench.accepted(second * SECOND, check("alfa"), port(2));
        let expected = if second == 31 { vec![Event::Unrouted { transport: ONE, route: port(1) }] } else { vec![] };
        assert_eq!(bench.events(second * SECOND), expected, "second {second}");
    }
    assert_eq!(bench.agent.selected(ONE), Some(port(2)));
}

#[test]
fn wake_says_when_time_matters() {
    let mut bench = Bench::new(Config::default(), &[]);
    assert_eq!(bench.agent.wake(), Micros::NEVER);
    bench.agent.put(ONE, &ice("alfa")).unwrap();
    bench.events(0);
    let wake = bench.agent.wake();
    assert!(wake > Micros(0) && wake <= Micros(SECOND));
    assert_eq!(bench.agent.poll(wake - Duration::from_micros(1)), None);
}

#[test]
fn a_transport_has_a_bounded_number_of_routes() {
    let mut bench = Bench::one();
    let nominate = Check { nominate: true, ..check("alfa") };
    bench.accepted(0, nominate, port(1));
    for i in 2..=ROUTES_MAX as u16 {
        assert_eq!(bench.accepted(u64::from(i), check("alfa"), port(i)).evicted, None);
    }
    let accepted = bench.accepted(1000, check("alfa"), port(9999));
    assert_eq!(accepted.evicted, Some(port(2)), "the one checked longest ago, but never the selected one");
    assert_eq!(bench.agent.by_route(&port(2)), None);
    assert_eq!(bench.agent.selected(ONE), Some(port(1)));
    assert_eq!(bench.agent.routes(ONE).count(), ROUTES_MAX);
}

#[test]
fn a_port_used_again_belongs_to_the_newer_transport() {
    let mut bench = Bench::new(Config::default(), &["alfa", "bravo"]);
    bench.accepted(0, check("alfa"), port(1));
    let accepted = bench.accepted(1, check("bravo"), port(1));
    assert_eq!(accepted.taken_from, Some(ONE));
    assert_eq!(bench.agent.by_route(&port(1)), Some(TWO));
    assert_eq!(bench.agent.selected(ONE), None);
    bench.agent.remove(ONE);
    assert_eq!(bench.agent.by_route(&port(1)), Some(TWO), "removing the older one leaves it");
    bench.agent.remove(TWO);
    assert_eq!(bench.agent.by_route(&port(1)), None);
    assert_eq!(bench.check(2, check("bravo"), port(1)).outcome, Outcome::Foreign);
}

#[test]
fn tables_are_bounded_and_places_are_reused() {
    let mut agent = Agent::new(Config { transports_max: 2, ..Config::default() });
    agent.put(ONE, &ice("alfa")).unwrap();
    agent.put(TWO, &ice("bravo")).unwrap();
    assert_eq!(agent.put(TransportId(3), &ice("charlie")), Err(PutError::Full));
    agent.remove(ONE);
    agent.put(TransportId(3), &ice("charlie")).unwrap();
    assert_eq!(agent.put(TWO, &ice("charlie")), Err(PutError::UfragTaken));
    assert_eq!(agent.put(TWO, &ice("x")), Err(PutError::Credentials));
    assert_eq!(agent.len(), 2);
}

#[test]
fn the_name_in_a_check_can_be_read_without_authenticating_it() {
    assert_eq!(local_ufrag(&written(check("alfa"))), Some("alfa"));
    assert_eq!(local_ufrag(&plain(32)), None);
    assert_eq!(local_ufrag(&[]), None);
}

/// A plain Binding request of that many bytes, filled with SOFTWARE.
fn plain(bytes: usize) -> Vec<u8> {
    let mut datagram = vec![0, 1, 0, (bytes - 20) as u8, 0x21, 0x12, 0xa4, 0x42];
    datagram.extend_from_slice(b"transaction!");
    if bytes > 20 {
        datagram.extend_from_slice(&[0x80, 0x22, 0, (bytes - 24) as u8]);
        datagram.resize(bytes, b'x');
    }
    datagram
}

#[test]
fn plain_requests_are_answered_if_they_are_long_enough() {
    for (address, least) in [("192.0.2.7:40000", RESPONDER_BYTES_V4), ("[2001:db8::7]:40000", RESPONDER_BYTES_V6)] {
        let mut bench = Bench::one();
        assert_eq!(bench.input(0, &plain(20), route(address)).outcome, Outcome::Dropped(Dropped::Amplifying));
        assert_eq!(bench.input(0, &plain(least - 4), route(address)).outcome, Outcome::Dropped(Dropped::Amplifying));
        let answer = bench.input(0, &plain(least), route(address));
        assert_eq!(answer, Answer { reply: Some(least), outcome: Outcome::Responded });
        let reply = Message::parse(&bench.out[..least]).unwrap();
        assert_eq!((reply.class, reply.mapped_address), (Class::Success, Some(address.parse().unwrap())));
        assert_eq!(bench.agent.by_route(&route(address)), None, "knowing one's address authenticates nobody");
    }
}

#[test]
fn plain_requests_are_answered_so_often_and_no_more() {
    let mut bench = Bench::new(Config { responder_per_s: 3, ..Config::default() }, &[]);
    let answered =
        |bench: &mut Bench, now| (0..10).filter(|_| bench.input(now, &plain(64), port(1)).reply.is_some()).count();
    assert_eq!(answered(&mut bench, 0), 3);
    assert_eq!(answered(&mut bench, SECOND / 2), 0);
    assert_eq!(answered(&mut bench, SECOND), 3);
    assert_eq!(bench.agent.counters().rate_limited, 24);
}

#[test]
fn an_unknown_required_attribute_is_an_error_only_to_the_authenticated() {
    let mut datagram = plain(64);
    datagram[20] = 0x7f;
    let mut bench = Bench::one();
    let answer = bench.input(0, &datagram, port(1));
    assert_eq!(answer, Answer { reply: None, outcome: Outcome::Dropped(Dropped::UnknownAttribute) });

    let mut datagram = username_only(b"alfa:client");
    datagram.extend_from_slice(&[0x7f, 0x01, 0, 0]);
    // RFC 8489 section 14.5: the length that is signed includes MESSAGE-INTEGRITY itself.
    datagram[3] = (datagram.len() - 20 + 24) as u8;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, credentials("alfa").pwd.as_bytes());
    let tag = hmac::sign(&key, &datagram);
    datagram.extend_from_slice(&[0, 8, 0, 20]);
    datagram.extend_from_slice(tag.as_ref());
    let answer = bench.input(0, &datagram, port(1));
    assert_eq!(answer.outcome, Outcome::Dropped(Dropped::UnknownAttribute));
    let reply = Message::parse(&bench.out[..answer.reply.unwrap()]).unwrap();
    assert_eq!(reply.error_code, Some(420));
    assert!(reply.verify_integrity(credentials("alfa").pwd.as_bytes()));
    assert_eq!(bench.agent.by_route(&port(1)), None);
}

#[test]
fn too_little_room_for_the_answer_is_not_a_panic() {
    let mut bench = Bench::one();
    for room in 0..76 {
        let mut out = vec![0; room];
        let answer = bench.agent.input(Micros(0), &written(check("alfa")), route("[2001:db8::7]:1"), &mut out);
        assert_eq!(answer, Answer { reply: None, outcome: Outcome::Dropped(Dropped::NoRoom) }, "{room}");
    }
}

proptest! {
    #[test]
    fn strangers_never_get_more_than_they_sent(
        random in prop::collection::vec(any::<u8>(), 0..200),
        mutate in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in 20usize..120,
        shape in 0..4,
        v6 in any::<bool>(),
    ) {
        let from = if v6 { route("[2001:db8::7]:40000") } else { port(1) };
        let mut datagram = match shape {
            0 => random,
            1 => plain(length & !3),
            2 => written(Check { password_of: "bravo", ..check("alfa") }),
            _ => username_only(&random[..random.len().min(100)]),
        };
        for (index, value) in mutate {
            if !datagram.is_empty() {
                let at = index.index(datagram.len());
                datagram[at] = value;
            }
        }
        let mut bench = Bench::one();
        let answer = bench.input(0, &datagram, from);
        prop_assert!(answer.reply.unwrap_or(0) <= datagram.len());
        prop_assert!(!matches!(answer.outcome, Outcome::Accepted(_)));
        prop_assert_eq!(bench.agent.by_route(&from), None);
    }

    /// Whatever happens, the table of routes and the routes of transports say the same.
    #[test]
    fn tables_agree(steps in prop::collection::vec((0u8..6, 0u64..4, 1u16..40, 0u64..20_000_000), 1..200)) {
        let mut bench = Bench::new(Config { transports_max: 4, ..Config::default() }, &["one1", "two2", "three3", "four4"]);
        let names = ["one1", "two2", "three3", "four4"];
        let mut now = 0;
        for (step, transport, p, pause) in steps {
            let name = names[transport as usize];
            let id = TransportId(transport + 1);
            match step {
                0 => bench.agent.remove(id),
                1 => bench.agent.put(id, &ice(name)).unwrap(),
                2 => { now += pause; bench.events(now); }
                _ => { bench.check(now, Check { nominate: step == 3, ..check(name) }, port(p)); }
            }
            let mut listed = 0;
            for id in (1..=4).map(TransportId) {
                for route in bench.agent.routes(id) {
                    prop_assert_eq!(bench.agent.by_route(&route), Some(id));
                    listed += 1;
                }
                let selected = bench.agent.selected(id);
                prop_assert_eq!(selected.is_some(), bench.agent.routes(id).count() > 0);
                prop_assert!(selected.is_none_or(|s| bench.agent.by_route(&s) == Some(id)));
            }
            let known = (1..40).filter(|&p| bench.agent.by_route(&port(p)).is_some()).count();
            prop_assert_eq!(known, listed);
        }
    }
}
