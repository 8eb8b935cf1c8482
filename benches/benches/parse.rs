//! Parsing what arrives, and answering a connectivity check.

#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sluice_frames::Route;
use sluice_messages::{Ice, IceCredentials, TransportId};
use sluice_slowpath::{Agent, ice};
use sluice_wire::{
    Micros,
    rtcp::{self, Compound, ReportBlock},
    rtp::{ExtensionWriter, Header, HeaderFields, write_header},
    stun::{Message, Request, Role, TransactionId, write_request},
};

const PASSWORD: &str = "a password of some length";

/// As browsers send video: MID, transport-wide number, absolute time.
fn media() -> Vec<u8> {
    let mut packet = vec![0; 1200];
    let fields = HeaderFields { marker: false, payload_type: 96, sequence: 7, timestamp: 90_000, ssrc: 5 };
    let header = write_header(&mut packet, fields).expect("room");
    let mut extensions = ExtensionWriter::new(&mut packet, header);
    for (id, value) in [(1, b"0".as_slice()), (3, &[0, 9]), (4, &[1, 2, 3])] {
        extensions.push(id, value).expect("room");
    }
    extensions.finish().expect("room");
    packet
}

/// As a receiver of one video sends it: a report, and transport-wide feedback on 50 packets of which two are lost.
fn feedback() -> Vec<u8> {
    let arrivals: Vec<_> = (0..50).map(|n| (n % 30 != 7).then_some(Micros(1_000_000 + 700 * n))).collect();
    let mut out = vec![0; 1200];
    let mut compound = Compound::new(&mut out);
    compound.receiver_report(1, &[ReportBlock { ssrc: 5, ..ReportBlock::default() }]).expect("room");
    compound.transport_feedback(1, 5, 3, 100, &arrivals).expect("room");
    let len = compound.len();
    out.truncate(len);
    out
}

fn check() -> Vec<u8> {
    let request = Request {
        transaction_id: TransactionId(*b"transaction!"),
        username: b"server-ufrag:client",
        password: PASSWORD.as_bytes(),
        priority: 100,
        use_candidate: true,
        role: Role::Controlling(7),
    };
    let mut out = vec![0; 256];
    let len = write_request(&mut out, &request).expect("room");
    out.truncate(len);
    out
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let packet = media();
    group.bench_function("rtp", |bencher| bencher.iter(|| Header::parse(black_box(&packet)).expect("a packet")));
    let compound = feedback();
    group.bench_function("rtcp, report and feedback on 50 packets", |bencher| {
        bencher.iter(|| {
            rtcp::packets(black_box(&compound))
                .map(|packet| match packet.expect("a packet") {
                    rtcp::Packet::TransportFeedback(feedback) => {
                        feedback.arrivals().filter(|a| a.at_us.is_some()).count()
                    }
                    rtcp::Packet::ReceiverReport(report) => report.reports().count(),
                    _ => 0,
                })
                .sum::<usize>()
        });
    });
    let request = check();
    group.bench_function("stun", |bencher| bencher.iter(|| Message::parse(black_box(&request)).is_ok()));
    group.finish();
}

fn answer(criterion: &mut Criterion) {
    let mut agent = Agent::new(ice::Config::default());
    let local = IceCredentials { ufrag: "server-ufrag".into(), pwd: PASSWORD.into() };
    agent.put(TransportId(1), &Ice { local, remote: None, previous_local: None }).expect("room");
    let request = check();
    let from = Route { socket: 0, peer: ([192, 0, 2, 1], 4000).into() };
    let (mut out, mut now) = ([0; ice::REPLY_BYTES_MAX], Micros(1_000_000));
    criterion.bench_function("stun answer", |bencher| {
        bencher.iter(|| {
            now.0 += 1_000;
            let answer = agent.input(now, black_box(&request), from, &mut out);
            assert!(answer.reply.is_some(), "the check is authentic");
            while agent.poll(now).is_some() {}
        });
    });
}

criterion_group!(benches, parse, answer);
criterion_main!(benches);
