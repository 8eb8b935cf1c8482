//! Key frames asked from publishers: wishes of all receivers of a layer become one PLI at a time.

use sluice_wire::Micros;

use crate::{
    Forwarder,
    limits::{KEYFRAME_INTERVAL, KEYFRAME_TRIES_MAX},
    stream::Stream,
};

/// Key frame requests of one layer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keyframe {
    wanted: bool,
    asked: Option<Micros>,
    tries: u32,
}

impl Keyframe {
    /// Somebody needs one. Returns when it may be asked for, if that is news.
    fn want(&mut self, now: Micros) -> Option<Micros> {
        if self.wanted {
            return None;
        }
        self.wanted = true;
        self.tries = 0;
        Some(self.allowed().max(now))
    }

    /// It came.
    fn arrived(&mut self) {
        self.wanted = false;
    }

    /// When the next request may leave; [`Micros::NEVER`] if none is needed.
    pub(crate) fn due(&self) -> Micros {
        if self.wanted { self.allowed() } else { Micros::NEVER }
    }

    /// A request leaves now.
    pub(crate) fn ask(&mut self, now: Micros) {
        self.asked = Some(now);
        self.tries += 1;
        self.wanted = self.tries < KEYFRAME_TRIES_MAX;
    }

    fn allowed(&self) -> Micros {
        self.asked.map_or(Micros(0), |asked| asked + KEYFRAME_INTERVAL)
    }
}

impl Forwarder {
    /// A layer begins a key frame: nobody needs to ask for one now.
    pub(crate) fn keyframe_arrived(&mut self, stream: Stream) {
        let track = self.tracks.get_mut(stream.track);
        if let Some(layer) = track.and_then(|track| track.layers.get_mut(usize::from(stream.encoding))) {
            layer.keyframe.arrived();
        }
    }

    /// Asks the publisher for a key frame of a layer, now or as soon as the rate limit allows.
    pub(crate) fn want_keyframe(&mut self, now: Micros, track_index: u32, encoding: u8) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        if track.muted {
            return;
        }
        let Some(layer) = track.layers.get_mut(usize::from(encoding)) else { return };
        let due = layer.keyframe.want(now);
        if track.home.is_some() {
            return self.ask_home(now, track_index);
        }
        if let Some(due) = due
            && let Some(peer) = self.peers.get_mut(track.publisher)
            && due < peer.due.keyframe
        {
            peer.due.keyframe = due;
            self.timers.sooner(track.publisher, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_are_one_request_each_interval() {
        let mut keyframe = Keyframe::default();
        let mut asked = 0;
        for ms in 0..2_000u64 {
            let now = Micros(ms * 1_000);
            keyframe.want(now);
            if keyframe.due() <= now {
                keyframe.ask(now);
                asked += 1;
            }
        }
        assert_eq!(asked, 4);
        keyframe.arrived();
        assert_eq!(keyframe.due(), Micros::NEVER);
    }
}
