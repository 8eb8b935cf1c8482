//! Where a datagram goes. Only STUN is looked at from strangers; everything else must come from a 5-tuple that passed an
//! authenticated check, here or at a sibling, or from another node that control told us of.

use sluice_forwarder::Input;
use sluice_frames::{Backend, FrameId, Route, Tx};
use sluice_messages::{Event, TransportId};
use sluice_slowpath::ice::{self, Accepted, Outcome};
use sluice_wire::{Micros, PacketClass, classify, stun};

use super::{
    WorkerIndex,
    run::Worker,
    status::{Ice, Status},
};

impl Worker {
    /// Takes a frame over and handles it. `via` is the sibling that received it, if one did.
    pub(super) fn datagram(&mut self, now: Micros, frame: FrameId, from: Route, via: Option<WorkerIndex>) {
        match classify(self.pool.bytes(frame)) {
            Some(class @ (PacketClass::Rtp | PacketClass::Rtcp)) => match self.ice.by_route(&from) {
                // The forwarder keeps the frame.
                Some(transport) => {
                    return self.forwarder.input(now, Input::Datagram { transport, frame }, &mut self.pool);
                }
                None => return self.unknown(now, class, frame, from, via),
            },
            Some(PacketClass::Stun) => self.stun(now, frame, from, via),
            Some(PacketClass::Dtls) => match self.ice.by_route(&from) {
                Some(transport) => self.dtls(transport, frame),
                None => self.unvalidated(frame, from, via),
            },
            None => self.counted.worker.drop_unclassified.add(1),
        }
        self.pool.release(frame);
    }

    /// A check, or somebody who wants to know the own address.
    fn stun(&mut self, now: Micros, frame: FrameId, from: Route, via: Option<WorkerIndex>) {
        let mut reply = [0; ice::REPLY_BYTES_MAX];
        let answer = self.ice.input(now, self.pool.bytes(frame), from, &mut reply);
        if let Some(bytes) = answer.reply
            && !self.send(&reply[..bytes], from)
        {
            self.counted.worker.drop_no_slot.add(1);
        }
        match answer.outcome {
            Outcome::Accepted(accepted) => {
                self.backend.validated(&self.pool, frame, from);
                self.accepted(now, accepted, from, via);
            }
            Outcome::Foreign => self.foreign(frame, from, via),
            Outcome::Responded | Outcome::Dropped(_) => {}
        }
    }

    /// The 5-tuple is valid.
    fn accepted(&mut self, now: Micros, accepted: Accepted, from: Route, via: Option<WorkerIndex>) {
        self.counted.worker.unsteered.add(u64::from(self.steer.own(&from).is_err()));
        // Without steering, the kernel goes on to give this 5-tuple to the same sibling, which must know whose it is. It is told at each
        // check, so that what it missed it learns at the next one.
        if let Some(sibling) = via
            && !self.siblings.own(sibling, from)
        {
            self.counted.worker.directory_untold.add(1);
        }
        if let Some(evicted) = accepted.evicted {
            self.disown(evicted);
        }
        if let Some(other) = accepted.taken_from {
            self.sync_route(now, other);
        }
        self.sync_route(now, accepted.transport);
        if accepted.connected {
            self.change(accepted.transport, |status| status.ice(Ice::Valid));
        }
    }

    /// A check for a transport that is not here.
    fn foreign(&mut self, frame: FrameId, from: Route, via: Option<WorkerIndex>) {
        if via.is_some() {
            return self.counted.worker.drop_handed_in.add(1);
        }
        let message = stun::Message::parse(self.pool.bytes(frame)).ok();
        let username = message.and_then(|m| m.username).and_then(|name| std::str::from_utf8(name).ok());
        let ufrag = username.and_then(|name| name.split_once(':')).map(|(local, _)| local);
        match ufrag.and_then(|ufrag| self.directory.ufrag(ufrag)) {
            Some(sibling) => self.hand_over(sibling, frame, from),
            None => self.counted.worker.drop_unknown_ufrag.add(1),
        }
    }

    /// Media or DTLS from a 5-tuple that is not ours.
    pub(super) fn unvalidated(&mut self, frame: FrameId, from: Route, via: Option<WorkerIndex>) {
        if via.is_some() {
            return self.counted.worker.drop_handed_in.add(1);
        }
        match self.directory.route(&from) {
            Some(sibling) => self.hand_over(sibling, frame, from),
            None => self.counted.worker.drop_unvalidated.add(1),
        }
    }

    pub(super) fn hand_over(&mut self, sibling: WorkerIndex, frame: FrameId, from: Route) {
        match self.siblings.hand(sibling, from, self.pool.bytes(frame)) {
            true => self.counted.worker.handed_over.add(1),
            false => self.counted.worker.drop_handoff_full.add(1),
        }
    }

    fn dtls(&mut self, transport: TransportId, frame: FrameId) {
        match self.to_slow.push(transport, self.pool.bytes(frame)) {
            true => self.is_slow_owed = true,
            false => self.counted.worker.drop_slow_full.add(1),
        }
    }

    /// Sends a datagram that is not media; false if no transmit slot is free.
    pub(super) fn send(&mut self, datagram: &[u8], to: Route) -> bool {
        let Some(slot) = self.backend.slot().and_then(|slot| slot.get_mut(..datagram.len())) else { return false };
        slot.copy_from_slice(datagram);
        self.backend.commit(datagram.len(), to);
        true
    }

    /// What time did to a 5-tuple.
    pub(super) fn consent_changed(&mut self, now: Micros, event: ice::Event) {
        match event {
            ice::Event::Unrouted { transport, route } => {
                self.disown(route);
                self.sync_route(now, transport);
            }
            ice::Event::Disconnected { transport } => self.change(transport, |status| status.ice(Ice::Silent)),
            ice::Event::Expired { transport } => self.change(transport, |status| status.ice(Ice::Expired)),
        }
    }

    /// A 5-tuple is no longer ours; whichever sibling receives it may forget it.
    pub(super) fn disown(&mut self, route: Route) {
        self.backend.forget(&route);
        self.counted.worker.unsteered.add(u64::from(self.steer.disown(&route).is_err()));
        let untold = self.siblings.disown(route);
        self.counted.worker.directory_untold.add(untold);
    }

    /// Lets the forwarder send to where ICE says.
    fn sync_route(&mut self, now: Micros, transport: TransportId) {
        let Some(status) = self.statuses.get_mut(&transport) else { return };
        let selected = self.ice.selected(transport);
        if status.route == selected {
            return;
        }
        status.route = selected;
        let input = match selected {
            Some(route) => Input::Route { transport, route },
            None => Input::Unroute { transport },
        };
        self.forwarder.input(now, input, &mut self.pool);
    }

    /// Changes what is known of a transport, and tells control if that makes a difference.
    pub(super) fn change(&mut self, transport: TransportId, change: impl FnOnce(&mut Status)) {
        let Some(status) = self.statuses.get_mut(&transport) else { return };
        change(status);
        if let Some(state) = status.change() {
            self.report(Event::Transport { transport, state });
        }
    }
}
