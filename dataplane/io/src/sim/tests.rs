use super::*;

const A: &str = "10.0.0.1:1000";
const B: &str = "10.0.0.2:2000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Sends `datagrams` numbered ones from A to B, one per `gap`, and returns what B received when.
fn run(seed: u64, link: Link, datagrams: u32, gap: Duration) -> (Vec<(u32, Duration)>, Counts) {
    let network = Network::new(seed);
    let mut sender = network.endpoint(&[address(A)]);
    let mut receiver = network.endpoint(&[address(B)]);
    network.set_link(address(A), address(B), link);
    let mut pool = Pool::new(4).unwrap();
    let mut heard = Vec::new();
    let mut collect = |network: &Network, pool: &mut Pool| {
        let turn = receiver.turn(pool, Duration::ZERO, &mut |pool, datagram| {
            assert_eq!(datagram.from, Route { socket: 0, peer: address(A) });
            let number = u32::from_be_bytes(pool.bytes(datagram.frame)[..4].try_into().unwrap());
            heard.push((number, network.now()));
            pool.release(datagram.frame);
        });
        turn.unwrap().received
    };
    for number in 0..datagrams {
        sender.slot().unwrap()[..1000].fill(0);
        sender.slot().unwrap()[..4].copy_from_slice(&number.to_be_bytes());
        sender.commit(1000, Route { socket: 0, peer: address(B) });
        sender.turn(&mut pool, Duration::ZERO, &mut |_, _| unreachable!("nobody sends to A")).unwrap();
        let next = network.now() + gap;
        while let Some(arrival) = network.next_arrival().filter(|&arrival| arrival <= next) {
            network.advance(arrival);
            collect(&network, &mut pool);
        }
        network.advance(next);
    }
    while let Some(arrival) = network.next_arrival() {
        network.advance(arrival);
        collect(&network, &mut pool);
    }
    assert_eq!(pool.free(), pool.capacity());
    (heard, network.counts_between(address(A), address(B)))
}

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_perfect_link_delivers_all_at_once_and_in_order() {
    let (heard, counts) = run(1, Link::default(), 100, MILLI);
    assert_eq!(heard, (0..100).map(|number| (number, MILLI * number)).collect::<Vec<_>>());
    assert_eq!(counts, Counts { sent: 100, delivered: 100, ..Counts::default() });
}

#[test]
fn loss_delay_and_duplication_are_as_said() {
    let link = Link { loss: 0.1, duplicate: 0.05, delay: 40 * MILLI, ..Link::default() };
    let (heard, counts) = run(7, link, 10_000, MILLI);
    assert!((900..1100).contains(&counts.lost), "{counts:?}");
    assert!((350..550).contains(&counts.duplicated), "{counts:?}");
    assert_eq!(counts.delivered, counts.sent - counts.lost + counts.duplicated);
    assert_eq!(heard.len() as u64, counts.delivered);
    assert!(heard.iter().all(|&(number, at)| at == MILLI * number + 40 * MILLI));
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let jitter = Link { jitter: 20 * MILLI, ..Link::default() };
    let (heard, _) = run(3, jitter, 1000, MILLI);
    assert!(heard.is_sorted_by_key(|&(number, _)| number));
    assert!(heard.iter().any(|&(number, at)| at > MILLI * number + 15 * MILLI));

    let reorder = Link { reorder: 0.1, hold: 5 * MILLI, ..Link::default() };
    let (heard, counts) = run(3, reorder, 1000, MILLI);
    assert!((50..150).contains(&counts.held), "{counts:?}");
    assert_eq!(heard.iter().filter(|&&(number, at)| at == MILLI * number + 5 * MILLI).count() as u64, counts.held);
    assert!(!heard.is_sorted_by_key(|&(number, _)| number));
}

#[test]
fn capacity_spreads_datagrams_and_the_queue_overflows() {
    // 1,000 bytes take 8 ms at 1 Mbit/s; one per millisecond is eight times too many.
    let link = Link { capacity_bps: Some(1_000_000), queue_bytes: 10_000, ..Link::default() };
    let (heard, counts) = run(5, link, 800, MILLI);
    assert!(heard.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 8 * MILLI));
    let worst = heard.iter().map(|&(number, at)| at - MILLI * number).max().unwrap();
    assert!(worst > 70 * MILLI && worst <= 80 * MILLI, "the queue holds 80 ms: {worst:?}");
    assert!((690..700).contains(&counts.overflowed), "{counts:?}");
}

#[test]
fn a_seed_replays_and_another_does_not() {
    let link = Link { loss: 0.2, jitter: 9 * MILLI, reorder: 0.1, hold: 3 * MILLI, ..Link::default() };
    assert_eq!(run(11, link, 500, MILLI), run(11, link, 500, MILLI));
    assert_ne!(run(11, link, 500, MILLI), run(12, link, 500, MILLI));
}

#[test]
fn a_turn_waits_in_invented_time() {
    let network = Network::new(0);
    network.set_default_link(Link { delay: 30 * MILLI, ..Link::default() });
    let mut pool = Pool::new(1).unwrap();
    let (mut a, mut b) = (network.endpoint(&[address(A)]), network.endpoint(&[address(B)]));
    let turn = b.turn(&mut pool, 10 * MILLI, &mut |_, _| {}).unwrap();
    assert_eq!((turn.received, network.now()), (0, 10 * MILLI));

    a.commit(0, Route { socket: 0, peer: address(B) });
    a.turn(&mut pool, Duration::ZERO, &mut |_, _| {}).unwrap();
    let turn = b.turn(&mut pool, 500 * MILLI, &mut |pool, datagram| pool.release(datagram.frame)).unwrap();
    assert_eq!((turn.received, network.now()), (1, 40 * MILLI));

    b.waker().wake();
    let turn = b.turn(&mut pool, 500 * MILLI, &mut |_, _| {}).unwrap();
    assert!(turn.woken);
    assert_eq!(network.now(), 40 * MILLI, "who was woken does not wait");
}

#[test]
fn an_empty_pool_leaves_datagrams_waiting() {
    let network = Network::new(0);
    let mut pool = Pool::new(1).unwrap();
    let (mut a, mut b) = (network.endpoint(&[address(A)]), network.endpoint(&[address(B)]));
    for _ in 0..2 {
        a.commit(5, Route { socket: 0, peer: address(B) });
    }
    a.commit(5, Route { socket: 0, peer: address("10.9.9.9:1") });
    a.turn(&mut pool, Duration::ZERO, &mut |_, _| {}).unwrap();
    assert_eq!(network.counts().unreachable, 1);

    let mut kept = None;
    let turn = b.turn(&mut pool, Duration::ZERO, &mut |_, datagram| kept = Some(datagram.frame)).unwrap();
    assert_eq!((turn.received, turn.starved), (1, 1));
    pool.release(kept.unwrap());
    let turn = b.turn(&mut pool, Duration::ZERO, &mut |pool, datagram| pool.release(datagram.frame)).unwrap();
    assert_eq!((turn.received, turn.starved), (1, 0));
}
