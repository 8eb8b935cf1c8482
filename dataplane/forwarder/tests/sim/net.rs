//! Nodes with relays between them: forwarders with their own clients, and a network that is slow and loses.

use std::collections::{BTreeMap, HashMap};

use sluice_forwarder::Input;
use sluice_messages::{Entry, Key, Relay, RelaySsrcs, RelayTrack, SrtpKeys, Track, TransportId, Wish};
use sluice_wire::{
    rtcp::{Packet, packets},
    rtp::{PacketClass, classify},
};

use crate::{support::*, viewer::watch};

/// Publisher, at the first node.
pub const ANNA: u64 = 1;
pub const VIDEO: u64 = 9;
pub const AUDIO: u64 = 7;
/// One way between two nodes.
pub const DELAY_US: u64 = 10_000;

pub fn keys(fill: u8) -> SrtpKeys {
    SrtpKeys { key: [fill; 16], salt: [fill ^ 0x33; 12] }
}

/// The `n`-th relay; `flips` for the end that did not ask for it.
pub fn relay(n: u64, flips: bool) -> Relay {
    let (one, other) = (keys(n as u8 * 2), keys(n as u8 * 2 + 1));
    let (send, receive) = if flips { (other, one) } else { (one, other) };
    Relay {
        id: TransportId(50 + n),
        call: CALL,
        peer: "another".into(),
        address: ([127, 0, 0, 1], 10_050 + n as u16).into(),
        ssrc: (n as u32 + 1) * Relay::SSRCS,
        send,
        receive,
    }
}

/// SSRCs of a track's layers on a relay.
pub fn ssrcs(n: u64, track: u64, layers: usize) -> Vec<RelaySsrcs> {
    let first = (n as u32 + 1) * Relay::SSRCS + track as u32 * 8;
    (0..layers as u32).map(|n| RelaySsrcs { ssrc: first + 2 * n, rtx_ssrc: Some(first + 2 * n + 1) }).collect()
}

/// How a track looks where it comes in by a relay.
pub fn from_relay(entry: &Entry, n: u64) -> Entry {
    let Entry::Track(track) = entry else { panic!("{entry:?}") };
    let mut track: Track = track.clone();
    track.publisher = TransportId(50 + n);
    let ssrcs = ssrcs(n, track.id.0, track.encodings.len());
    for (encoding, pair) in track.encodings.iter_mut().zip(ssrcs) {
        (encoding.ssrc, encoding.rtx_ssrc) = (Some(pair.ssrc), pair.rtx_ssrc);
    }
    Entry::Track(track)
}

pub fn to_relay(entry: &Entry, n: u64) -> Entry {
    let Entry::Track(track) = entry else { panic!("{entry:?}") };
    let ssrcs = ssrcs(n, track.id.0, track.encodings.len());
    Entry::RelayTrack(RelayTrack { relay: TransportId(50 + n), track: track.id, ssrcs })
}

impl World {
    pub fn relay(&mut self, entry: Relay) {
        let route = sluice_frames::Route { socket: 0, peer: entry.address };
        let transport = entry.id;
        self.put(Entry::Relay(entry));
        self.forwarder.input(self.now, Input::Route { transport, route }, &mut self.pool);
    }
}

/// Nodes in a row: each has a relay to the next.
pub struct Net {
    pub worlds: Vec<World>,
    /// On the way: by arrival and order, the node and relay it is for, and the datagram.
    pub flying: BTreeMap<(u64, u64), (usize, u64, Vec<u8>)>,
    pub sent: u64,
    /// Of a thousand datagrams, so many are lost.
    pub loss_permille: u64,
    pub random: u64,
    /// RTP packets that crossed, by SSRC.
    pub crossed: HashMap<u32, u64>,
    /// Bytes by direction, SSRC and sequence number, under the present keys.
    pub seen: HashMap<(usize, u32, u16), Vec<u8>>,
}

impl Net {
    pub fn new(count: usize) -> Net {
        let mut worlds: Vec<World> = (0..count).map(|_| World::new()).collect();
        for (n, world) in worlds.iter_mut().enumerate() {
            world.keyed = 40 * n as u8;
        }
        for n in 0..count - 1 {
            worlds[n].relay(relay(n as u64, false));
            worlds[n + 1].relay(relay(n as u64, true));
        }
        Net {
            worlds,
            flying: BTreeMap::new(),
            sent: 0,
            loss_permille: 0,
            random: 7,
            crossed: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Publishes at the first node, for the second.
    pub fn publish(&mut self, entry: &Entry) {
        self.worlds[0].put(entry.clone());
        self.worlds[0].put(to_relay(entry, 0));
        self.worlds[1].put(from_relay(entry, 0));
    }

    pub fn loses(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < self.loss_permille
    }

    pub fn poll(&mut self) {
        for node in 0..self.worlds.len() {
            self.worlds[node].poll();
            let now = self.worlds[node].now;
            for (id, bytes) in std::mem::take(&mut self.worlds[node].strays) {
                let Some(n) = id.checked_sub(50) else { continue };
                let to = if n as usize == node { node + 1 } else { node - 1 };
                if classify(&bytes) == Some(PacketClass::Rtp) {
                    let ssrc = sluice_wire::rtp::ssrc(&bytes).unwrap();
                    assert_eq!(Relay::first(ssrc), relay(n, false).ssrc, "the relay is told by the SSRC");
                    *self.crossed.entry(ssrc).or_default() += 1;
                    let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
                    let before = self.seen.insert((node, ssrc, sequence), bytes.clone());
                    assert!(before.is_none_or(|before| before == bytes), "{sequence} of {ssrc} left with other bytes");
                } else {
                    let ssrc = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
                    assert_eq!(Relay::first(ssrc), relay(n, false).ssrc, "RTCP too");
                }
                self.sent += 1;
                if !self.loses() {
                    self.flying.insert((now.0 + DELAY_US, self.sent), (to, id, bytes));
                }
            }
        }
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.worlds.iter_mut().for_each(|world| world.now.0 += 1_000);
            let now = self.worlds[0].now.0;
            while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= now) {
                let (to, id, bytes) = first.remove();
                self.worlds[to].datagram(id, &bytes);
            }
            self.poll();
        }
    }

    /// Packets that crossed of one layer, its repairs included.
    pub fn crossed(&self, track: u64, layer: usize) -> u64 {
        let pair = ssrcs(0, track, 3)[layer];
        let of = |ssrc| self.crossed.get(&ssrc).copied().unwrap_or(0);
        of(pair.ssrc) + of(pair.rtx_ssrc.unwrap())
    }

    /// The end of a call: no frame may stay behind anywhere, and nobody says anything any more.
    pub fn finish(mut self) {
        for world in &mut self.worlds {
            for n in 0..3 {
                world.remove(Key::Transport(TransportId(50 + n)));
            }
        }
        self.flying.clear();
        self.worlds.into_iter().for_each(World::finish);
    }
}

/// Anna with three layers and a microphone at the first node.
pub struct Stage {
    pub net: Net,
    pub layers: Vec<Camera>,
    pub microphone: Microphone,
    pub video: Track,
    pub tick: u64,
    pub plis_seen: usize,
}

impl Stage {
    pub fn new() -> Stage {
        let mut net = Net::new(2);
        net.worlds[0].join(ANNA);
        let video = video_track(VIDEO, ANNA, 3);
        net.publish(&Entry::Track(video.clone()));
        net.publish(&audio_track(AUDIO, ANNA, None));
        let layers = ["q", "h", "f"].iter().zip(101..);
        let layers = layers.map(|(rid, ssrc)| Camera::new(ANNA, VIDEO, Some(rid), ssrc)).collect();
        Stage { net, layers, microphone: Microphone::new(ANNA, AUDIO, 5555), video, tick: 0, plis_seen: 0 }
    }

    /// A receiver of both tracks.
    pub fn join(&mut self, node: usize, id: u64) {
        self.net.worlds[node].join(id);
        self.want(node, id, u8::MAX);
        self.net.worlds[node].put(Entry::Subscription(subscription(id, AUDIO)));
    }

    pub fn want(&mut self, node: usize, id: u64, max_encoding: u8) {
        let wish = Wish { max_encoding, ..Wish::default() };
        self.net.worlds[node]
            .put(Entry::Subscription(sluice_messages::Subscription { wish, ..subscription(id, VIDEO) }));
    }

    /// SSRCs for which Anna was asked for key frames since the last time.
    pub fn plis(&mut self) -> Vec<u32> {
        let compounds = &self.net.worlds[0].parties[&ANNA].rtcp;
        let asked = compounds[self.plis_seen..].iter().flat_map(|c| packets(c).map(|p| p.unwrap()));
        let asked = asked.filter_map(|packet| match packet {
            Packet::PictureLossIndication { media_ssrc, .. } => Some(media_ssrc),
            _ => None,
        });
        let asked = asked.collect();
        self.plis_seen = compounds.len();
        asked
    }

    /// 30 frames a second, with key frames where they are asked for, and 30 packets of audio.
    pub fn play(&mut self, ms: u64) {
        for _ in 0..ms / 33 {
            let asked = self.plis();
            for layer in &mut self.layers {
                let is_keyframe = self.tick == 0 || asked.contains(&layer.ssrc);
                layer.shoot(&mut self.net.worlds[0], is_keyframe);
            }
            self.microphone.talk(&mut self.net.worlds[0]);
            self.tick += 1;
            self.net.run(33);
        }
    }

    pub fn got(&self, node: usize, id: u64, track: u64) -> Vec<Rtp> {
        let ssrc = subscription(id, track).ssrc;
        let rtp = &self.net.worlds[node].parties[&id].rtp;
        rtp.iter().filter(|packet| packet.header.ssrc == ssrc).cloned().collect()
    }

    /// The layer whose packets came last to a receiver.
    pub fn shown(&self, node: usize, id: u64) -> Option<usize> {
        let frame = watch(&self.got(node, id, VIDEO), true).pop()?;
        Some(frame.ssrc as usize - 101)
    }
}
