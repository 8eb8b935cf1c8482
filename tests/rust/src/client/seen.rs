//! What a client has seen.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use livekit_protocol::{ParticipantInfo, TrackType, participant_info::State};
use str0m::media::{MediaData, Mid};

/// What a client has seen so far.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// Own participant sid.
    pub sid: String,
    /// Why the client ended, if it did.
    pub failed: Option<String>,
    /// Others that are there, by identity, with their sids.
    pub people: HashMap<String, String>,
    /// Those of them that the server calls active.
    pub active: HashSet<String>,
    /// Others that were reported as gone.
    pub departures: u64,
    /// Updates of participants.
    pub updates: u64,
    /// Tracks of others by sid.
    pub tracks: HashMap<String, Remote>,
    /// Media sections with something received.
    pub audios: HashMap<Mid, Received>,
    pub videos: HashMap<Mid, Received>,
    /// Frames without a number: somebody else made them.
    pub odd_frames: u64,
    /// Data messages received.
    pub data: u64,
    pub keyframe_requests: u64,
    /// Answers to pings.
    pub pongs: u64,
    /// Times the WebSocket was lost, and times a session was resumed on a new one.
    pub breaks: u64,
    pub resumes: u64,
    /// ICE restarts that the server offered.
    pub restarts: u64,
    /// `_reliable` is open towards the server, and from it.
    pub can_send_data: bool,
    pub can_receive_data: bool,
    /// Since the start of joining.
    pub connected: Option<Duration>,
    pub first_audio: Option<Duration>,
    pub first_video: Option<Duration>,
}

impl Seen {
    /// Notes what the server says of somebody else.
    pub(super) fn person(&mut self, participant: &ParticipantInfo) {
        let identity = &participant.identity;
        self.tracks.retain(|_, remote| remote.identity != *identity);
        self.active.remove(identity);
        match participant.state() {
            State::Disconnected => {
                self.departures += u64::from(self.people.remove(identity).is_some());
                return;
            }
            State::Active => drop(self.active.insert(identity.clone())),
            _ => {}
        }
        self.people.insert(identity.clone(), participant.sid.clone());
        for track in &participant.tracks {
            let remote = Remote { identity: identity.clone(), is_video: track.r#type() == TrackType::Video };
            self.tracks.insert(track.sid.clone(), remote);
        }
    }
}

/// A track of somebody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    pub identity: String,
    pub is_video: bool,
}

/// What came of one track.
#[derive(Clone, Default, Debug)]
pub struct Received {
    pub frames: u64,
    /// Frames that the depacketiser marked as following a gap.
    pub gaps: u64,
    /// Number carried by the first and the last frame.
    pub first: u64,
    pub number: u64,
    /// Numbers that were left out.
    pub missing: u64,
    /// Frames whose number or time went backwards, or whose time was repeated.
    pub disorder: u64,
    /// How many frames there were when that last happened.
    pub disorder_at: u64,
    /// Numbers that came twice: the second time as the key frame of another layer.
    pub repeats: u64,
    /// RTP time of the last frame.
    pub time: u64,
    /// Bytes of the last frame, which tell its layer.
    pub bytes: usize,
}

impl Received {
    pub(super) fn frame(&mut self, number: u64, data: &MediaData) {
        let time = data.time.numer();
        if self.frames == 0 {
            self.first = number;
        } else {
            self.gaps += u64::from(!data.contiguous);
            if number < self.number || time <= self.time {
                self.disorder += 1;
                self.disorder_at = self.frames;
            }
            self.repeats += u64::from(number == self.number);
            let left_out = number.saturating_sub(self.number.saturating_add(1));
            self.missing = self.missing.saturating_add(left_out);
        }
        self.frames += 1;
        self.number = number;
        self.time = time;
        self.bytes = data.data.len();
    }

    /// Share of the numbers between the first and the last that never came.
    pub fn missing_share(&self) -> f64 {
        self.missing as f64 / (self.missing + self.frames).max(1) as f64
    }
}
