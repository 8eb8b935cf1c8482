//! Sealing and opening, beside `webrtc-srtp`.

#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use sluice_srtp::{Profile, Receiver, Sender, exercise::material};
use sluice_wire::rtp::{HeaderFields, write_header};
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

const PROFILES: [(&str, Profile, ProtectionProfile); 3] = [
    ("aes128-gcm", Profile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    ("aes256-gcm", Profile::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
    ("aes-cm", Profile::Aes128CmSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
];

/// Audio and video.
const PAYLOAD_BYTES: [usize; 2] = [100, 1200];

const HEADER_BYTES: usize = 12;

/// Packets numbered one after the other, without end.
struct Packets {
    index: u64,
    packet: Vec<u8>,
}

impl Packets {
    fn new(payload_bytes: usize) -> Packets {
        Packets { index: 1, packet: vec![0x5a; HEADER_BYTES + payload_bytes] }
    }

    /// The next packet and its rollover count.
    fn next(&mut self) -> (&[u8], u32) {
        let fields =
            HeaderFields { marker: false, payload_type: 96, sequence: self.index as u16, timestamp: 0, ssrc: 0x5eed };
        write_header(&mut self.packet, fields).expect("room");
        let roc = (self.index >> 16) as u32;
        self.index += 1;
        (&self.packet, roc)
    }
}

fn reference(profile: Profile, reference: ProtectionProfile) -> Context {
    // The server's keys of `exercise::material`: client key, server key, client salt, server salt.
    let exported: Vec<u8> = (0..profile.exporter_len() as u8).collect();
    let (key, salt) = (profile.key_len(), profile.salt_len());
    let server_salt = &exported[2 * key + salt..];
    Context::new(&exported[key..2 * key], server_salt, reference, None, None).expect("the keys fit")
}

fn seal(criterion: &mut Criterion) {
    each(criterion, "seal", |group, id, profile, other, bytes| {
        let sender = Sender::new(&material(profile, true)).expect("the keys fit");
        let (mut packets, mut out) = (Packets::new(bytes), [0; 2048]);
        group.bench_function(BenchmarkId::new("sluice", &id), |bencher| {
            bencher.iter(|| {
                let (packet, roc) = packets.next();
                sender
                    .seal_rtp(&packet[..HEADER_BYTES], &packet[HEADER_BYTES..], roc, black_box(&mut out))
                    .expect("sealed")
            });
        });
        let (mut packets, mut context) = (Packets::new(bytes), reference(profile, other));
        group.bench_function(BenchmarkId::new("webrtc-srtp", &id), |bencher| {
            bencher.iter(|| context.encrypt_rtp(packets.next().0).expect("sealed"));
        });
    });
}

fn open(criterion: &mut Criterion) {
    each(criterion, "open", |group, id, profile, other, bytes| {
        let sender = Sender::new(&material(profile, true)).expect("the keys fit");
        let sealed = |packets: &mut Packets| {
            let (packet, roc) = packets.next();
            let mut out = vec![0; 2048];
            let len = sender.seal_rtp(&packet[..HEADER_BYTES], &packet[HEADER_BYTES..], roc, &mut out).expect("sealed");
            out.truncate(len);
            out
        };
        let mut receiver = Receiver::new(&material(profile, false)).expect("the keys fit");
        let mut packets = Packets::new(bytes);
        group.bench_function(BenchmarkId::new("sluice", &id), |bencher| {
            bencher.iter_batched_ref(
                || sealed(&mut packets),
                |packet| receiver.unprotect_rtp(packet).expect("authentic"),
                BatchSize::SmallInput,
            );
        });
        let (mut packets, mut context) = (Packets::new(bytes), reference(profile, other));
        group.bench_function(BenchmarkId::new("webrtc-srtp", &id), |bencher| {
            bencher.iter_batched_ref(
                || sealed(&mut packets),
                |packet| context.decrypt_rtp(packet).expect("authentic"),
                BatchSize::SmallInput,
            );
        });
    });
}

/// Every profile with every size.
fn each(
    criterion: &mut Criterion,
    name: &str,
    mut bench: impl FnMut(&mut BenchmarkGroup<'_, WallTime>, String, Profile, ProtectionProfile, usize),
) {
    let mut group = criterion.benchmark_group(name);
    for bytes in PAYLOAD_BYTES {
        group.throughput(Throughput::Bytes(bytes as u64));
        for (id, profile, other) in PROFILES {
            bench(&mut group, format!("{id}, {bytes} B"), profile, other, bytes);
        }
    }
    group.finish();
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
