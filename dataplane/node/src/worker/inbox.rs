//! What other threads say to a worker: the link, the slow thread, the siblings.

use sluice_forwarder::{Input, Remote};
use sluice_frames::{FrameId, Tx};
use sluice_messages::{Entry, Event, Key, Transport};
use sluice_wire::Micros;

use super::{
    Command, RemoteTrack, WorkerIndex,
    handoff::Handed,
    run::Worker,
    status::{Dtls, Ice},
};
use crate::slow::Verdict;

/// Commands obeyed in one turn. Raising it applies a snapshot sooner and delays packets by more; a row takes a few
/// microseconds.
const COMMANDS_PER_TURN: usize = 64;

/// Datagrams taken from one sibling in one turn, so that own datagrams and sends get theirs.
const HANDED_PER_TURN: usize = 256;

impl Worker {
    /// Something waits in a queue.
    pub(super) fn is_spoken_to(&self) -> bool {
        !self.commands.is_empty()
            || !self.verdicts.is_empty()
            || self.from_siblings.iter().any(|(_, lane)| lane.len() > 0)
    }

    pub(super) fn inbox(&mut self, now: Micros) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.commands.pop() else { break };
            self.obey(now, command);
        }
        self.verdicts(now);
        let mut lanes = std::mem::take(&mut self.from_siblings);
        for (sibling, lane) in &mut lanes {
            for _ in 0..lane.len().min(HANDED_PER_TURN) {
                let pool = &mut self.pool;
                let handed = lane.pop(|head, bytes| {
                    let frame = if bytes.is_empty() { None } else { pool.take() };
                    if let Some(frame) = frame {
                        pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(bytes);
                        pool.set_len(frame, bytes.len());
                    }
                    (head, frame, !bytes.is_empty() && frame.is_none())
                });
                let Some((head, frame, is_starved)) = handed else { break };
                if is_starved {
                    self.counted.worker.drop_no_frame.add(1);
                    continue;
                }
                self.handed(now, *sibling, head, frame);
            }
        }
        self.from_siblings = lanes;
    }

    /// Something from a sibling, with the frame that its bytes are in now.
    fn handed(&mut self, now: Micros, sibling: WorkerIndex, head: Handed, frame: Option<FrameId>) {
        match head {
            Handed::Datagram(from) => {
                if let Some(frame) = frame {
                    self.counted.worker.handed_in.add(1);
                    self.datagram(now, frame, from, Some(sibling));
                }
            }
            Handed::Mine(route) => {
                if self.directory.learn_route(route, sibling).is_err() {
                    self.counted.worker.directory_full.add(1);
                }
            }
            Handed::NotMine(route) => self.directory.forget_route(&route, sibling),
            Handed::Relayed(what) => {
                // Below `SIBLINGS_MAX`, which is below 256.
                let input = Input::Relayed { from: sibling as u8, what, frame };
                self.forwarder.input(now, input, &mut self.pool);
            }
        }
    }

    fn obey(&mut self, now: Micros, command: Command) {
        match command {
            Command::Put(entry) => {
                self.forwarder.input(now, Input::Put(&entry), &mut self.pool);
                match *entry {
                    Entry::Transport(transport) => self.put_transport(&transport),
                    Entry::Relay(relay) => self.route_relay(now, &relay),
                    _ => {}
                }
            }
            Command::PutRemote(remote) => {
                let RemoteTrack { track, home, cname } = &*remote;
                let remote = Remote { track, home: *home as u8, cname };
                self.forwarder.input(now, Input::PutRemote(remote), &mut self.pool);
            }
            Command::Remove(key) => {
                if let Key::Transport(transport) = key {
                    let routes: Vec<_> = self.ice.routes(transport).collect();
                    routes.into_iter().for_each(|route| self.disown(route));
                    self.ice.remove(transport);
                    self.statuses.remove(&transport);
                }
                self.forwarder.input(now, Input::Remove(&key), &mut self.pool);
            }
            Command::Foreign { ufrag, owner } => {
                if self.directory.learn_ufrag(ufrag, owner as WorkerIndex).is_err() {
                    self.counted.worker.directory_full.add(1);
                }
            }
            Command::Relay { address, ssrc, owner } => self.tell_relay(address, ssrc, owner),
            Command::Forget { ufrag, owner } => self.directory.forget_ufrag(&ufrag, owner as WorkerIndex),
        }
    }

    fn put_transport(&mut self, transport: &Transport) {
        let refused = self.ice.put(transport.id, &transport.ice).err();
        if let Some(error) = refused {
            self.counted.worker.refused_transports.add(1);
            tracing::warn!(transport = transport.id.0, %error, "transport refused");
        }
        self.statuses.entry(transport.id).or_default();
        self.change(transport.id, |status| {
            status.fingerprint(transport.fingerprint);
            if refused.is_some() {
                status.ice(Ice::Refused);
            }
        });
    }

    /// Results of the slow thread, as long as there are transmit slots for its datagrams: what does not fit waits there.
    fn verdicts(&mut self, now: Micros) {
        while let Ok(verdict) = self.verdicts.peek() {
            if matches!(verdict, Verdict::Datagram { .. }) && self.backend.slot().is_none() {
                return;
            }
            let Ok(verdict) = self.verdicts.pop() else { return };
            match verdict {
                Verdict::Datagram { transport, bytes } => {
                    let route = self.statuses.get(&transport).and_then(|status| status.route);
                    match route {
                        Some(route) => {
                            if !self.send(&bytes, route) {
                                self.counted.worker.drop_no_slot.add(1);
                            }
                        }
                        None => self.counted.worker.drop_no_route.add(1),
                    }
                }
                Verdict::Keys { transport, keys } => {
                    self.forwarder.input(now, Input::Keys { transport, keys: &keys }, &mut self.pool);
                    self.change(transport, |status| status.dtls(Dtls::Connected));
                }
                Verdict::Channel { transport, kind, stream } => {
                    self.report(Event::Channel { transport, kind, stream });
                }
                Verdict::Closed { transport, failure } => {
                    self.change(transport, |status| status.dtls(Dtls::Closed(failure)));
                }
            }
        }
    }
}
