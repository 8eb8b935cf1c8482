//! Every bound of the forwarder, and what raising or lowering it costs.

use std::time::Duration;

use sluice_frames::DATAGRAM_BYTES;
use sluice_messages::Kind;

/// Sizes of a forwarder. All tables are made at start; nothing grows past these numbers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Peer connections. Raising it costs about 8 KiB each that is used (100 KiB at
    /// worst, if its client used every SSRC it may); a transport beyond it is refused and reported `Failed(Full)`.
    pub peers_max: usize,
    /// Published media sections. Raising it costs about 50 KiB each; a track beyond it is refused and counted.
    pub tracks_max: usize,
    /// Subscriptions. 100 people who all know each other's camera and microphone are 19,800. Raising it costs about
    /// 800 bytes each, and 3 KiB more for audio that is forwarded (for video see `histories_max`).
    pub subscriptions_max: usize,
    /// Subscriptions that are forwarding video and can answer NACKs at once. Raising it costs 24 KiB each; beyond it media
    /// still flows but is not retransmitted.
    pub histories_max: usize,
    /// Packets waiting for one receiver, separately for audio, retransmissions and video. Raising it rides out longer
    /// stalls of the transmit side at the price of delay, lowering it drops sooner.
    pub egress_queue_max: usize,
    /// Packets waiting for all receivers together, 32 bytes each. A key frame of 40 packets to 2,000 receivers is 80,000;
    /// beyond it packets are dropped and counted.
    pub egress_packets_max: usize,
    /// Longest time that video waits for more that can leave with it. It is reached when the worker is busy: an idle one
    /// holds nothing, and audio, repairs and RTCP never wait. Raising it makes sends longer and cheaper per packet, and
    /// delays video by as much.
    pub hold: Duration,
    /// Padding that makes packets equally long so that they leave together, in thousandths of the bytes sent. Raising it
    /// makes sends longer where packets differ much, and costs receivers that much more bandwidth; 0 pads nothing.
    pub padding_permille: u32,
    /// Video packets kept per layer for retransmission. Raising it answers NACKs over longer round trips and holds more
    /// frames. Rounded up to a power of two, at most [`VIDEO_RECORDS`].
    pub history_video_packets: usize,
    /// The same for audio, at most [`AUDIO_RECORDS`].
    pub history_audio_packets: usize,
    /// Age at which a kept packet goes, whatever the counts say.
    pub history: Duration,
    /// Wall clock at `Micros(0)` as a 32.32 NTP timestamp (RFC 3550 section 4).
    pub ntp_offset: u64,
    /// What waits to be handed to siblings: packets of one turn of the worker, at about 150 bytes each. Beyond it they are
    /// dropped and counted. 0 for a forwarder without siblings.
    pub relays_max: usize,
    /// Events waiting for the caller. Beyond it they are dropped and counted; states are sent again on their next change.
    pub events_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            peers_max: 4096,
            tracks_max: 2048,
            subscriptions_max: 32_768,
            histories_max: 4096,
            egress_queue_max: 512,
            egress_packets_max: 131_072,
            hold: Duration::from_millis(2),
            padding_permille: 30,
            history_video_packets: 512,
            history_audio_packets: 64,
            history: Duration::from_secs(1),
            ntp_offset: 0,
            relays_max: 2048,
            events_max: 4096,
        }
    }
}

impl Config {
    /// Upper bound of the memory of a forwarder with this configuration, item by item, in bytes. Packet memory is the
    /// pool's and not in it; [`Config::frames_wanted`] says how much of that is needed.
    pub fn memory(&self) -> [(&'static str, usize); 7] {
        [
            ("peers", self.peers_max * (size_of::<crate::peer::Peer>() + PEER_HEAP_BYTES)),
            ("egress queues", crate::queue::Queues::memory(self.egress_packets_max)),
            (
                "tracks",
                self.tracks_max
                    * (size_of::<crate::track::Track>()
                        + crate::track::LAYERS_MAX
                            * self.history_video_packets.next_power_of_two()
                            * size_of::<crate::history::Kept>()),
            ),
            (
                "subscriptions",
                self.subscriptions_max
                    * (size_of::<crate::subscription::Subscription>()
                        + AUDIO_RECORDS * size_of::<crate::history::Sent>()),
            ),
            ("relays", self.relays_max * size_of::<crate::relay::Relay>()),
            ("histories", self.histories_max * VIDEO_RECORDS * size_of::<crate::history::Sent>()),
            ("indices", (self.peers_max + self.tracks_max * 7 + self.subscriptions_max) * 4 * 16),
        ]
    }

    /// Packets kept of one layer.
    pub(crate) fn history_packets(&self, kind: Kind) -> usize {
        match kind {
            Kind::Audio => self.history_audio_packets.min(AUDIO_RECORDS),
            Kind::Video => self.history_video_packets.min(VIDEO_RECORDS),
        }
    }

    /// Frames that `layers` live layers of video and `voices` live voices hold at most in their histories.
    pub fn frames_wanted(&self, layers: usize, voices: usize) -> usize {
        layers * self.history_video_packets + voices * self.history_audio_packets
    }
}

/// What a peer keeps on the heap besides its queues, at worst: session keys, a replay window for each SSRC it ever used (most
/// use ten), and the arrival times for transport-wide feedback.
const PEER_HEAP_BYTES: usize =
    (4 << 10) + sluice_srtp::MAX_STREAMS * 152 + size_of::<crate::feedback::twcc::Arrivals>();

/// Outgoing packets of one video subscription that can be named by a NACK: a power of two. Raising it lets older packets
/// be asked for; 512 are about one second of 5 Mbit/s.
pub const VIDEO_RECORDS: usize = 512;

/// The same for audio: 64 are 1.28 s of 20 ms packets.
pub const AUDIO_RECORDS: usize = 64;

/// Tracks of one publisher transport. A participant has camera, microphone, screen and its audio; more is generosity.
pub const TRACKS_PER_PEER_MAX: usize = 64;

/// Bytes of a MID or RID. RFC 8285's one-byte form carries at most 16.
pub const LABEL_BYTES_MAX: usize = 16;

/// Bytes of header extensions copied from an incoming packet to what is sent. The longest in use is a dependency
/// descriptor with its template structure, which stays under 200 bytes.
pub const PASSTHROUGH_BYTES_MAX: usize = 256;

/// Longest datagram that is taken in: the rest of its frame carries the extensions to be copied.
pub const DATAGRAM_BYTES_MAX: usize = DATAGRAM_BYTES - PASSTHROUGH_BYTES_MAX;

/// Payload types a track may have. More in an entry are ignored.
pub const PAYLOADS_MAX: usize = 16;

/// A layer without packets for this long is not there. Lower falls back faster but takes a camera at 1 fps for gone.
pub const LAYER_SILENCE: Duration = Duration::from_millis(1000);

/// One request for a key frame per layer in this time. Lower recovers faster and lets receivers make a publisher send key
/// frames more often than it can afford.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

/// Requests in a row for a layer nobody answers with a key frame; then only a new wish or request starts over.
pub const KEYFRAME_TRIES_MAX: u32 = 40;

/// Period of transport-wide feedback (transport-cc). Lower lets publishers react faster and costs packets.
pub const TWCC_PERIOD: Duration = Duration::from_millis(50);

/// Period of sender and receiver reports.
pub const REPORT_PERIOD: Duration = Duration::from_millis(1000);

/// First reports of a new stream come this early, so that lip sync starts early.
pub const REPORT_FIRST: Duration = Duration::from_millis(100);

/// Period of speaker detection; an event is sent only when something changed.
pub const SPEAKERS_PERIOD: Duration = Duration::from_millis(300);

/// Packets that one NACK storm may cost: retransmissions to one receiver per [`RESEND_PERIOD`].
pub const RESENDS_MAX: u32 = 200;

/// Sequence numbers of one receiver that are looked up per [`RESEND_PERIOD`], whether or not they can be sent again. Five
/// times as many as are answered leave room for those asked for twice; raising it lets one receiver cost a worker more.
pub const NACKED_MAX: u32 = 1000;

/// Window of [`RESENDS_MAX`].
pub const RESEND_PERIOD: Duration = Duration::from_millis(100);

/// Packets a second that a worker sends before it begins to hold video: about 1 % of a core, where nothing is to be saved.
pub const HOLD_NONE_PPS: u64 = 2_000;

/// Packets a second from which on it holds video for the whole [`Config::hold`]: about a tenth of a core.
pub const HOLD_FULL_PPS: u64 = 20_000;

/// Calls with participants on one forwarder are at most its peers; speakers reported per call.
pub const SPEAKERS_MAX: usize = 8;

/// Seconds after which a sibling that did not repeat its wish for a layer gets it no more; it repeats them each second.
/// Raising it forgives longer pauses of its thread, lowering it wastes less on a sibling whose last word was lost.
pub const RELAY_LEASE_S: u32 = 2;

/// Relays to other nodes on one forwarder. Each takes the place of a peer; raising it lets calls that span nodes crowd out
/// people.
pub const RELAYS_MAX: usize = 1024;

/// Relays of one call: a few to each of its other nodes, as one carries [`TRACKS_PER_PEER_MAX`] tracks each way. Raising it
/// lets one call be larger and span more nodes.
pub const RELAYS_PER_CALL_MAX: usize = 64;

/// Seconds after which another node that did not repeat its wish for a layer gets it no more; it repeats them each second.
/// Raising it forgives a longer outage between nodes, lowering it wastes less on a node that is gone.
pub const RELAY_WISH_S: u8 = 5;

/// A relay by which nothing came for this long is told to control as disconnected: its other end speaks each second at least.
/// Raising it forgives longer outages, lowering it finds a way that is closed sooner.
pub const RELAY_SILENCE: Duration = Duration::from_secs(5);

/// How often news are said to another node, [`RELAY_SAID_AGAIN`] apart, as any of them may be lost. Raising it survives worse
/// networks, and costs a few bytes for each change.
pub const RELAY_SAYS: u8 = 3;

/// Pause between these.
pub const RELAY_SAID_AGAIN: Duration = Duration::from_millis(100);

/// How many times what one client may ask or send another node may, which has many clients behind it. Lowering it meets
/// relays of large calls; raising it lets a broken node take more of a worker.
pub const RELAY_FACTOR: u32 = 8;

/// RTP packets of one transport per second that are looked at at all; more are dropped before they cost a decryption.
/// 20,000 are 190 Mbit/s of full packets, several times what three layers of 4K at 60 fps take with their repairs. Raising
/// it lets one client take more of a worker (a packet costs about a microsecond, and again for each receiver), lowering
/// it comes near to what real publishers send.
pub const RTP_PER_S_MAX: u64 = 20_000;

/// The same for RTCP compounds. A receiver of fifty lossy videos sends some hundred.
pub const RTCP_PER_S_MAX: u64 = 2_000;

/// What may come at once after a pause: as much as in this time. It rides out what a network or a client holds back;
/// raising it lets a hostile client stop the worker for longer, lowering it drops what honest ones send after a stall.
pub const INTAKE_BURST: Duration = Duration::from_millis(500);

/// A track may send this many times the rate that its publisher declared; packets beyond it are dropped. Encoders exceed
/// their target for a second after a scene cut, and repairs and probes come on top: two would meet honest ones.
pub const RATE_FACTOR: u64 = 4;

/// What a track may always send: too little to harm anybody, whatever was declared. Lowering it meets clients that
/// declare kilobits for bits.
pub const RATE_MIN_BPS: u64 = 2_000_000;

/// Taken as declared where nothing is: the highest rate of Opus (RFC 6716 section 2.1.1).
pub const AUDIO_RATE_BPS: u64 = 510_000;

/// The same for video: what three layers of 4K take.
pub const VIDEO_RATE_BPS: u64 = 40_000_000;

/// What a track may send ahead of its rate. A key frame is a few tenths of a second of its rate; raising it lets more
/// through to receivers before the bound holds.
pub const RATE_BURST: Duration = Duration::from_secs(1);

/// Longest compound of RTCP that is sent: below any path MTU in use.
pub const RTCP_BYTES_MAX: usize = 1100;

const _: () = {
    assert!(VIDEO_RECORDS.is_power_of_two() && AUDIO_RECORDS.is_power_of_two());
    // The largest packets in use fit an Ethernet frame.
    assert!(DATAGRAM_BYTES_MAX >= 1500);
    assert!(LABEL_BYTES_MAX <= 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_fits_a_small_machine() {
        let memory = Config::default().memory();
        let total: usize = memory.iter().map(|(_, bytes)| bytes).sum();
        assert!(total < 720 << 20, "at worst, every table full: {memory:?}");
    }
}
