//! What waits for one receiver, and who is to be served when: at once for audio, repairs and RTCP, after a short hold for
//! video, so that packets come together that can leave as one send.

use std::{collections::VecDeque, time::Duration};

use sluice_frames::Pool;
use sluice_wire::Micros;

use crate::{
    gather::{Budget, PLAN_MAX},
    limits::{HOLD_FULL_PPS, HOLD_NONE_PPS},
    queue::{Queue, Queued, Queues},
};

/// In which order things leave: audio is never delayed behind video, and repairs come before what is new, as the receiver
/// waits for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    Audio,
    Resend,
    Video,
}

/// What waits for one receiver.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    audio: Queue,
    resend: Queue,
    video: Queue,
    /// RTCP is due.
    pub(crate) rtcp: bool,
    /// In which lists of [`Pace`] it is.
    is_urgent: bool,
    is_released: bool,
    is_held: bool,
    /// When the newest video packet was queued.
    newest: Micros,
    /// How much of the video comes within a hold of what came before, in 1/256: where little does, holding is for nothing.
    gain: u8,
    pub(crate) budget: Budget,
}

/// Below this [gain](Egress::gain), a quarter, video is not held.
const GAIN_MIN: u8 = 64;

impl Egress {
    /// Queues a packet and takes a share in its frame; false if the lane or the memory of all is full.
    pub(crate) fn push(
        &mut self,
        lane: Lane,
        queued: Queued,
        max: usize,
        queues: &mut Queues,
        pool: &mut Pool,
    ) -> bool {
        let queue = self.lane(lane);
        queue.len() < max && queues.push(queue, queued, pool)
    }

    /// The next packet that is not to be held.
    pub(crate) fn pop_urgent(&mut self, queues: &mut Queues) -> Option<(Lane, Queued)> {
        let audio = queues.pop(&mut self.audio).map(|queued| (Lane::Audio, queued));
        audio.or_else(|| queues.pop(&mut self.resend).map(|queued| (Lane::Resend, queued)))
    }

    /// The next video packet.
    pub(crate) fn pop_video(&mut self, queues: &mut Queues) -> Option<Queued> {
        queues.pop(&mut self.video)
    }

    /// Video packets that wait.
    pub(crate) fn video(&self) -> usize {
        self.video.len()
    }

    /// Lets go of what waits for a subscription, or of everything; returns how many packets that were.
    pub(crate) fn purge(&mut self, subscription: Option<u32>, queues: &mut Queues, pool: &mut Pool) -> u64 {
        [&mut self.audio, &mut self.resend, &mut self.video]
            .into_iter()
            .map(|queue| queues.purge(queue, subscription, pool))
            .sum()
    }

    fn lane(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Audio => &mut self.audio,
            Lane::Resend => &mut self.resend,
            Lane::Video => &mut self.video,
        }
    }
}

/// Receivers that have something to send, each once in each list.
pub(crate) struct Pace {
    /// Have audio, repairs or RTCP.
    urgent: VecDeque<u32>,
    /// Have video whose time has come.
    released: VecDeque<u32>,
    /// Have video that is held, with the time it is held until.
    held: VecDeque<(Micros, u32)>,
    hold: Duration,
    hold_max: Duration,
    /// Packets sent when the hold was last adapted.
    sent: u64,
    adapted: Micros,
}

impl Pace {
    pub(crate) fn new(peers_max: usize, hold_max: Duration) -> Pace {
        Pace {
            urgent: VecDeque::with_capacity(peers_max),
            released: VecDeque::with_capacity(peers_max),
            held: VecDeque::with_capacity(peers_max),
            hold: Duration::ZERO,
            hold_max,
            sent: 0,
            adapted: Micros(0),
        }
    }

    /// How long video is held now.
    pub(crate) fn hold(&self) -> Duration {
        self.hold
    }

    /// Fits the hold to what is sent: none while the machine has little to do, since then it only delays.
    pub(crate) fn adapt(&mut self, now: Micros, sent: u64) {
        let elapsed_us = now.since(self.adapted).as_micros() as u64;
        let pps = (sent.wrapping_sub(self.sent) * 1_000_000).checked_div(elapsed_us).unwrap_or(0);
        (self.sent, self.adapted) = (sent, now);
        let above = pps.clamp(HOLD_NONE_PPS, HOLD_FULL_PPS) - HOLD_NONE_PPS;
        self.hold = self.hold_max * above as u32 / (HOLD_FULL_PPS - HOLD_NONE_PPS) as u32;
    }

    /// Audio or a repair was queued for a receiver.
    pub(crate) fn urge(&mut self, index: u32, egress: &mut Egress) {
        if !std::mem::replace(&mut egress.is_urgent, true) {
            self.urgent.push_back(index);
        }
    }

    /// A video packet was queued for a receiver; `is_last` if nothing is to be expected to follow it soon.
    pub(crate) fn queued(&mut self, now: Micros, is_last: bool, index: u32, egress: &mut Egress) {
        let is_close = now.since(std::mem::replace(&mut egress.newest, now)) <= self.hold;
        egress.gain = egress.gain - (egress.gain >> 4) + if is_close { 15 } else { 0 };
        let goes = is_last || egress.video() >= PLAN_MAX;
        if egress.is_released || (egress.is_held && !goes) {
            return;
        }
        if goes || self.hold.is_zero() || egress.gain < GAIN_MIN {
            egress.is_released = true;
            self.released.push_back(index);
        } else {
            egress.is_held = true;
            self.held.push_back((self.until(now), index));
        }
    }

    /// When what is held from now on leaves: all holds end at multiples of half a hold, so that one wake-up serves many
    /// receivers. None is longer than the hold, and none shorter than half of it.
    fn until(&self, now: Micros) -> Micros {
        let until = now + self.hold;
        let grid_us = (self.hold.as_micros() as u64 / 2).max(1);
        Micros(until.0 - until.0 % grid_us)
    }

    /// A receiver whose hold is over; its video is to be [released](Pace::release).
    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<u32> {
        self.held.front().filter(|(until, _)| *until <= now)?;
        self.held.pop_front().map(|(_, index)| index)
    }

    /// The hold is over.
    pub(crate) fn release(&mut self, index: u32, egress: &mut Egress) {
        egress.is_held = false;
        if !egress.is_released && egress.video() > 0 {
            egress.is_released = true;
            self.released.push_back(index);
        }
    }

    pub(crate) fn next_urgent(&self) -> Option<u32> {
        self.urgent.front().copied()
    }

    /// The next urgent receiver has nothing more, or is gone.
    pub(crate) fn served_urgent(&mut self, egress: Option<&mut Egress>) {
        self.urgent.pop_front();
        if let Some(egress) = egress {
            egress.is_urgent = false;
        }
    }

    pub(crate) fn next_released(&self) -> Option<u32> {
        self.released.front().copied()
    }

    /// The next released receiver had its turn, or is gone. If it has more video, its next turn comes after all others'.
    pub(crate) fn served_released(&mut self, egress: Option<&mut Egress>) {
        let served = self.released.pop_front();
        if let (Some(index), Some(egress)) = (served, egress) {
            egress.is_released = egress.video() > 0;
            if egress.is_released {
                self.released.push_back(index);
            }
        }
    }

    /// When somebody is to be served: the past if at once.
    pub(crate) fn due(&self) -> Micros {
        if !self.urgent.is_empty() || !self.released.is_empty() {
            return Micros(0);
        }
        self.held.front().map_or(Micros::NEVER, |(until, _)| *until)
    }

    /// A receiver is gone.
    pub(crate) fn remove(&mut self, index: u32) {
        self.urgent.retain(|&peer| peer != index);
        self.released.retain(|&peer| peer != index);
        self.held.retain(|&(_, peer)| peer != index);
    }
}
