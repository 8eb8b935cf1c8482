//! Invented peers with real keys around a forwarder, in invented time. Every SRTP packet that leaves is checked: no index
//! of a key and SSRC may be seen twice with different bytes.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use sluice_forwarder::{Config, Forwarder, Input, Output, Relay, Relayed};
use sluice_frames::{Pool, Route, Tx};
use sluice_messages::{
    CallId, Codec, Encoding, Entry, Event, Extension, ExtensionMap, Ice, IceCredentials, Key, Kind, Participant,
    Payload, PayloadMap, Subscription, Track, TrackId, Transport, TransportId, Wish,
};
use sluice_srtp::{KeyMaterial, MasterKey, Profile, Receiver, Sender};
use sluice_wire::{
    Micros,
    rtcp::{self, Compound},
    rtp::{ExtensionWriter, Header, HeaderFields, PacketClass, classify, write_header},
    sequence::Extender,
};

pub const CALL: CallId = CallId(1);
pub const OPUS: u8 = 111;
pub const RED: u8 = 63;
pub const VP8: u8 = 96;
pub const VP8_RTX: u8 = 97;
/// Payload types at receivers differ from those of publishers.
pub const OPUS_OUT: u8 = 109;
pub const VP8_OUT: u8 = 120;
pub const VP8_RTX_OUT: u8 = 121;

/// Collects what a forwarder sends.
pub struct Collect {
    slot: Box<[u8; 2048]>,
    pub sent: Vec<(Route, Vec<u8>)>,
    /// Slots left, if they are few.
    pub slots: usize,
    /// Only counts, so that a test can watch allocations.
    pub discards: bool,
    pub committed: u64,
    /// Sends that a backend would have made of them.
    pub sends: u64,
    /// Where the last datagram went and how long it was, if the send takes more.
    open: Option<(Route, usize)>,
}

impl Tx for Collect {
    fn slot(&mut self) -> Option<&mut [u8]> {
        (self.slots > 0).then_some(&mut self.slot[..])
    }

    fn room(&self) -> usize {
        self.slots
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        self.slots -= 1;
        self.committed += 1;
        let fits = self.open.is_some_and(|(route, length)| route == to && bytes <= length);
        self.sends += u64::from(!fits);
        let length = self.open.filter(|_| fits).map_or(bytes, |(_, length)| length);
        self.open = (!fits || bytes == length).then_some((to, length));
        if !self.discards {
            self.sent.push((to, self.slot[..bytes].to_vec()));
        }
    }
}

/// A client.
pub struct Party {
    pub sender: Sender,
    pub receiver: Receiver,
    /// Decrypted RTP in order of arrival.
    pub rtp: Vec<Rtp>,
    /// Decrypted RTCP compounds.
    pub rtcp: Vec<Vec<u8>>,
    /// Packets that came with the same bytes again.
    pub repeats: usize,
    /// Bytes by SSRC and index, for this key.
    seen: HashMap<(u32, u64), Vec<u8>>,
    extenders: HashMap<u32, Extender>,
}

#[derive(Clone, Debug)]
pub struct Rtp {
    pub header: Header,
    pub index: u64,
    pub packet: Vec<u8>,
}

impl Rtp {
    pub fn payload(&self) -> &[u8] {
        self.header.payload(&self.packet)
    }

    pub fn extension(&self, extension: Extension) -> Option<&[u8]> {
        self.header.extension(&self.packet, extension.canonical_id())
    }
}

pub struct World {
    pub forwarder: Forwarder,
    pub pool: Pool,
    pub tx: Collect,
    pub now: Micros,
    pub parties: BTreeMap<u64, Party>,
    pub events: Vec<Event>,
    /// What was said to siblings: to whom, what, and the bytes of its packet.
    pub relays: Vec<(u64, Relayed, Option<Vec<u8>>)>,
    /// What went to where there is no party: to other nodes.
    pub strays: Vec<(u64, Vec<u8>)>,
    /// Key pairs given out.
    pub keyed: u8,
}

/// Ids that a client negotiated for what it sends: not the canonical ones.
pub fn client_extensions() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for (n, extension) in Extension::ALL.into_iter().enumerate() {
        map.insert(extension, 14 - n as u8);
    }
    map
}

pub fn material(profile: Profile, n: u8) -> (KeyMaterial, KeyMaterial) {
    let key = |fill: u8| {
        MasterKey::new(profile, &vec![fill; profile.key_len()], &vec![fill ^ 0x55; profile.salt_len()]).unwrap()
    };
    let (ours, theirs) = (key(n * 2 + 1), key(n * 2 + 2));
    let node = KeyMaterial { profile, outbound: ours.clone(), inbound: theirs.clone() };
    let client = KeyMaterial { profile, outbound: theirs, inbound: ours };
    (node, client)
}

impl World {
    pub fn new() -> World {
        World::with(Config::default(), 4096)
    }

    pub fn with(config: Config, frames: usize) -> World {
        World {
            forwarder: Forwarder::new(config, 42),
            pool: Pool::new(frames).unwrap(),
            tx: Collect {
                slot: Box::new([0; 2048]),
                sent: Vec::new(),
                slots: usize::MAX,
                discards: false,
                committed: 0,
                sends: 0,
                open: None,
            },
            now: Micros(1_000_000),
            parties: BTreeMap::new(),
            events: Vec::new(),
            relays: Vec::new(),
            strays: Vec::new(),
            keyed: 0,
        }
    }

    pub fn put(&mut self, entry: Entry) {
        self.forwarder.input(self.now, Input::Put(&entry), &mut self.pool);
    }

    pub fn remove(&mut self, key: Key) {
        self.forwarder.input(self.now, Input::Remove(&key), &mut self.pool);
    }

    pub fn transport(id: u64) -> Transport {
        let credentials = IceCredentials { ufrag: "ufrag".into(), pwd: "a password of some length".into() };
        Transport {
            id: TransportId(id),
            call: CALL,
            participant: Participant { sid: format!("PA_{id}"), identity: format!("p{id}") },
            ice: Ice { local: credentials, remote: None, previous_local: None },
            fingerprint: None,
            receive_extensions: client_extensions(),
            send_extensions: ExtensionMap::canonical(|_| true),
            data: None,
        }
    }

    pub fn join(&mut self, id: u64) {
        self.put(Entry::Transport(World::transport(id)));
        self.key(id, Profile::AeadAes128Gcm);
        self.route(id);
    }

    pub fn key(&mut self, id: u64, profile: Profile) {
        let (node, client) = material(profile, self.keyed);
        self.keyed += 1;
        self.forwarder.input(self.now, Input::Keys { transport: TransportId(id), keys: &node }, &mut self.pool);
        let party = Party {
            sender: Sender::new(&client).unwrap(),
            receiver: Receiver::new(&client).unwrap(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
            repeats: 0,
            seen: HashMap::new(),
            extenders: HashMap::new(),
        };
        self.parties.insert(id, party);
    }

    pub fn route(&mut self, id: u64) {
        let route = Route { socket: 0, peer: SocketAddr::from(([127, 0, 0, 1], 10_000 + id as u16)) };
        self.forwarder.input(self.now, Input::Route { transport: TransportId(id), route }, &mut self.pool);
    }

    /// Datagram as it is.
    pub fn datagram(&mut self, id: u64, bytes: &[u8]) {
        let Some(frame) = self.pool.take() else { panic!("out of frames") };
        self.pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(bytes);
        self.pool.set_len(frame, bytes.len());
        let input = Input::Datagram { transport: TransportId(id), frame };
        self.forwarder.input(self.now, input, &mut self.pool);
    }

    /// Hears a sibling.
    pub fn hear(&mut self, from: u8, what: Relayed, bytes: Option<&[u8]>) {
        let frame = bytes.map(|bytes| {
            let frame = self.pool.take().expect("a free frame");
            self.pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(bytes);
            self.pool.set_len(frame, bytes.len());
            frame
        });
        self.forwarder.input(self.now, Input::Relayed { from, what, frame }, &mut self.pool);
    }

    /// Seals an RTP packet with an extended index and sends it.
    pub fn send(&mut self, id: u64, index: u64, packet: &[u8]) {
        let header = Header::parse(packet).unwrap();
        let start = usize::from(header.payload_start);
        let mut out = [0; 2048];
        let sender = &self.parties[&id].sender;
        let len = sender.seal_rtp(&packet[..start], &packet[start..], (index >> 16) as u32, &mut out).unwrap();
        self.datagram(id, &out[..len]);
    }

    pub fn send_rtcp(&mut self, id: u64, write: impl FnOnce(&mut Compound<'_>)) {
        let mut out = [0; 2048];
        let mut compound = Compound::new(&mut out[..1400]);
        write(&mut compound);
        let len = compound.len();
        let len = self.parties.get_mut(&id).unwrap().sender.protect_rtcp(&mut out, len).unwrap();
        self.datagram(id, &out[..len]);
    }

    pub fn poll(&mut self) {
        while let Some(output) = self.forwarder.poll(self.now, &mut self.pool, &mut self.tx) {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Relay(Relay { to, what, frame }) => {
                    let bytes = frame.map(|frame| self.pool.bytes(frame).to_vec());
                    frame.into_iter().for_each(|frame| self.pool.release(frame));
                    self.relays.push((to, what, bytes));
                }
            }
        }
        for (route, bytes) in std::mem::take(&mut self.tx.sent) {
            self.deliver(u64::from(route.peer.port()) - 10_000, bytes);
        }
    }

    fn deliver(&mut self, id: u64, mut bytes: Vec<u8>) {
        let Some(party) = self.parties.get_mut(&id) else { return self.strays.push((id, bytes)) };
        match classify(&bytes) {
            Some(PacketClass::Rtp) => {
                let ssrc = sluice_wire::rtp::ssrc(&bytes).unwrap();
                let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
                let index = party.extenders.entry(ssrc).or_default().extend(sequence);
                if let Some(before) = party.seen.get(&(ssrc, index)) {
                    assert_eq!(*before, bytes, "index {index} of {ssrc} left twice with different bytes");
                    party.repeats += 1;
                    return;
                }
                party.seen.insert((ssrc, index), bytes.clone());
                let opened = party.receiver.unprotect_rtp(&mut bytes).expect("the receiver can open what is sent");
                bytes.truncate(opened.len);
                let header = Header::parse(&bytes).unwrap();
                party.rtp.push(Rtp { header, index: opened.index, packet: bytes });
            }
            Some(PacketClass::Rtcp) => {
                let len = party.receiver.unprotect_rtcp(&mut bytes).expect("the receiver can open what is sent");
                bytes.truncate(len);
                assert!(rtcp::packets(&bytes).all(|p| p.is_ok()), "RTCP is well formed");
                party.rtcp.push(bytes);
            }
            other => panic!("neither RTP nor RTCP: {other:?}"),
        }
    }

    /// Lets time pass in steps of a millisecond.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now.0 += 1_000;
            self.poll();
        }
    }

    pub fn party(&mut self, id: u64) -> &mut Party {
        self.parties.get_mut(&id).unwrap()
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.forwarder.counters().iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no counter {name}")).1
    }

    /// Removes everything: no frame may stay behind.
    pub fn finish(mut self) {
        for id in self.parties.keys().copied().collect::<Vec<_>>() {
            self.remove(Key::Transport(TransportId(id)));
        }
        assert_eq!(self.pool.free(), self.pool.capacity(), "frames leaked");
    }
}

pub fn audio_track(id: u64, publisher: u64, ssrc: Option<u32>) -> Entry {
    Entry::Track(Track {
        id: TrackId(id),
        call: CALL,
        publisher: TransportId(publisher),
        kind: Kind::Audio,
        mid: id.to_string(),
        payloads: vec![
            Payload { payload_type: OPUS, codec: Codec::Opus, rtx: None, nack: true },
            Payload { payload_type: RED, codec: Codec::Red, rtx: None, nack: true },
        ],
        encodings: vec![Encoding { rid: None, ssrc, rtx_ssrc: None }],
        muted: false,
        rate_bps: 0,
    })
}

/// VP8 with `layers` simulcast layers, known by RID.
pub fn video_track(id: u64, publisher: u64, layers: usize) -> Track {
    let rids = ["q", "h", "f"];
    Track {
        id: TrackId(id),
        call: CALL,
        publisher: TransportId(publisher),
        kind: Kind::Video,
        mid: id.to_string(),
        payloads: vec![Payload { payload_type: VP8, codec: Codec::Vp8, rtx: Some(VP8_RTX), nack: true }],
        encodings: (0..layers)
            .map(|n| Encoding { rid: (layers > 1).then(|| rids[n].into()), ssrc: None, rtx_ssrc: None })
            .collect(),
        muted: false,
        rate_bps: 0,
    }
}

pub fn subscription(receiver: u64, track: u64) -> Subscription {
    let ssrc = (receiver * 1000 + track * 2) as u32;
    Subscription {
        receiver: TransportId(receiver),
        track: TrackId(track),
        mid: format!("s{track}"),
        ssrc,
        rtx_ssrc: Some(ssrc + 1),
        payloads: vec![
            PayloadMap { from: OPUS, to: OPUS_OUT, rtx: None },
            PayloadMap { from: VP8, to: VP8_OUT, rtx: Some(VP8_RTX_OUT) },
        ],
        wish: Wish::default(),
    }
}

/// An RTP packet with client extensions.
pub fn packet(fields: HeaderFields, extensions: &[(Extension, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1500];
    let len = write_header(&mut out, fields).unwrap();
    let ids = client_extensions();
    let mut writer = ExtensionWriter::new(&mut out, len);
    for (extension, value) in extensions {
        writer.push(ids.id(*extension).unwrap(), value).unwrap();
    }
    let len = writer.finish().unwrap();
    out.truncate(len);
    out.extend_from_slice(payload);
    out
}

/// A microphone: 20 ms packets.
pub struct Microphone {
    pub publisher: u64,
    pub track: u64,
    pub ssrc: u32,
    pub index: u64,
    pub timestamp: u32,
    pub level: u8,
    pub transport_sequence: u16,
}

impl Microphone {
    pub fn new(publisher: u64, track: u64, ssrc: u32) -> Microphone {
        Microphone { publisher, track, ssrc, index: 65_500, timestamp: 0xffff_0000, level: 20, transport_sequence: 0 }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let fields = HeaderFields {
            marker: false,
            payload_type: OPUS,
            sequence: self.index as u16,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        let mid = self.track.to_string();
        let payload = [self.index.to_be_bytes().as_slice(), &[0xa5; 60]].concat();
        let made = packet(
            fields,
            &[
                (Extension::Mid, mid.as_bytes()),
                (Extension::AudioLevel, &[0x80 | self.level]),
                (Extension::TransportCc, &self.transport_sequence.to_be_bytes()),
            ],
            &payload,
        );
        self.index += 1;
        self.timestamp = self.timestamp.wrapping_add(960);
        made
    }

    pub fn talk(&mut self, world: &mut World) {
        let index = self.index;
        let made = self.next();
        world.send(self.publisher, index, &made);
    }
}

/// One layer of a camera.
#[derive(Clone)]
pub struct Camera {
    pub publisher: u64,
    pub track: u64,
    pub rid: Option<&'static str>,
    pub ssrc: u32,
    pub index: u64,
    pub timestamp: u32,
    pub picture_id: u16,
    pub tl0: u8,
    /// Frames so far: every second one is temporal layer 1.
    pub frames: u64,
    pub packets_per_frame: u64,
    /// Packets differ in length by up to this much.
    pub unequal: u64,
    pub rtx_index: u64,
    /// Sent packets by index, to be repeated.
    pub sent: BTreeMap<u64, Vec<u8>>,
}

impl Camera {
    pub fn new(publisher: u64, track: u64, rid: Option<&'static str>, ssrc: u32) -> Camera {
        Camera {
            publisher,
            track,
            rid,
            ssrc,
            index: 65_000 + u64::from(ssrc % 500),
            timestamp: ssrc.wrapping_mul(77_777),
            picture_id: 32_000 + (ssrc % 700) as u16,
            tl0: ssrc as u8,
            frames: 0,
            packets_per_frame: 3,
            unequal: 0,
            rtx_index: 500,
            sent: BTreeMap::new(),
        }
    }

    /// The packets of the next frame with their indices.
    pub fn frame(&mut self, keyframe: bool) -> Vec<(u64, Vec<u8>)> {
        let temporal = if keyframe { 0 } else { (self.frames % 2) as u8 };
        self.frames = if keyframe { 1 } else { self.frames + 1 };
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.timestamp = self.timestamp.wrapping_add(3000);
        let mut packets = Vec::new();
        for n in 0..self.packets_per_frame {
            let [high, low] = self.picture_id.to_be_bytes();
            let start = if n == 0 { 0x10 } else { 0 };
            let mut payload = vec![0x80 | start, 0xe0, 0x80 | high, low, self.tl0, temporal << 6 | 0x20];
            if n == 0 {
                payload.extend(if keyframe { [0x10, 0, 0, 0x9d, 0x01, 0x2a] } else { [0x11, 0, 0, 0, 0, 0] });
                payload.extend([0x40, 0x01, 0xf0, 0x00]);
            }
            // What a decoder would notice: which layer, which frame, which part of it.
            payload.extend(self.ssrc.to_be_bytes());
            payload.extend(self.index.to_be_bytes());
            payload.extend([0x77; 200]);
            payload.extend((0..self.index * 37 % (self.unequal + 1)).map(|n| n as u8));
            let fields = HeaderFields {
                marker: n + 1 == self.packets_per_frame,
                payload_type: VP8,
                sequence: self.index as u16,
                timestamp: self.timestamp,
                ssrc: self.ssrc,
            };
            let mid = self.track.to_string();
            let mut extensions = vec![(Extension::Mid, mid.as_bytes())];
            extensions.extend(self.rid.map(|rid| (Extension::Rid, rid.as_bytes())));
            extensions.push((Extension::VideoOrientation, &[1]));
            let made = packet(fields, &extensions, &payload);
            self.sent.insert(self.index, made.clone());
            packets.push((self.index, made));
            self.index += 1;
        }
        packets
    }

    pub fn shoot(&mut self, world: &mut World, keyframe: bool) {
        for (index, packet) in self.frame(keyframe) {
            world.send(self.publisher, index, &packet);
        }
    }

    /// Repeats a packet as RTX.
    pub fn repeat(&mut self, world: &mut World, index: u64) {
        let original = &self.sent[&index];
        let header = Header::parse(original).unwrap();
        let fields = HeaderFields {
            marker: header.marker,
            payload_type: VP8_RTX,
            sequence: self.rtx_index as u16,
            timestamp: header.timestamp,
            ssrc: self.ssrc + 50_000,
        };
        let mid = self.track.to_string();
        let mut extensions = vec![(Extension::Mid, mid.as_bytes())];
        extensions.extend(self.rid.map(|rid| (Extension::RepairedRid, rid.as_bytes())));
        let payload = [&(index as u16).to_be_bytes(), header.payload(original)].concat();
        let made = packet(fields, &extensions, &payload);
        world.send(self.publisher, self.rtx_index, &made);
        self.rtx_index += 1;
    }
}
