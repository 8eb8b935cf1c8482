//! What the node last reported of everything that is a state, so that a control that was away learns it again.

use std::collections::{BTreeMap, BTreeSet};

use sluice_messages::{CallId, Event, Key, LayerLive, Speaker, Streams, TrackId, TransportId, TransportState};

use super::table::Table;

/// The latest state of each row that has one. Bounded by the table: rows that are not in it have no state.
#[derive(Default)]
pub(crate) struct States {
    transports: BTreeMap<TransportId, TransportState>,
    channels: BTreeMap<TransportId, Streams>,
    started: BTreeSet<TrackId>,
    layers: BTreeMap<TrackId, Vec<LayerLive>>,
    forwarding: BTreeMap<(TransportId, TrackId), Option<u8>>,
    speakers: BTreeMap<CallId, Vec<Speaker>>,
}

impl States {
    /// Takes an event from a worker. False: it is about something that is gone, and nobody wants to hear of it.
    pub(crate) fn note(&mut self, event: &Event, table: &Table) -> bool {
        match event {
            Event::Transport { transport, state } => {
                let known = table.contains(&Key::Transport(*transport));
                if known {
                    self.transports.insert(*transport, state.clone());
                }
                known
            }
            Event::Channel { transport, kind, stream } => {
                let known = table.contains(&Key::Transport(*transport));
                if known {
                    self.channels.entry(*transport).or_default().set(*kind, *stream);
                }
                known
            }
            Event::TrackStarted { track } => {
                let known = table.contains(&Key::Track(*track));
                if known {
                    self.started.insert(*track);
                }
                known
            }
            Event::Layers { track, live } => {
                let known = table.contains(&Key::Track(*track));
                if known {
                    self.layers.insert(*track, live.clone());
                }
                known
            }
            Event::Forwarding { receiver, track, encoding } => {
                let known = table.contains(&Key::Subscription { receiver: *receiver, track: *track });
                if known {
                    self.forwarding.insert((*receiver, *track), *encoding);
                }
                known
            }
            Event::Speakers { call, speakers } => {
                // Silence is what a new control assumes anyway, and calls without a state take no room.
                if speakers.is_empty() {
                    self.speakers.remove(call);
                } else {
                    self.speakers.insert(*call, speakers.clone());
                }
                true
            }
            Event::Quality { transport, .. } => table.contains(&Key::Transport(*transport)),
            Event::Counters { .. } => true,
        }
    }

    /// A row went.
    pub(crate) fn forget(&mut self, key: &Key) {
        match key {
            Key::Transport(transport) => {
                self.transports.remove(transport);
                self.channels.remove(transport);
            }
            Key::Track(track) => {
                self.started.remove(track);
                self.layers.remove(track);
                self.speakers.retain(|_, speakers| !speakers.iter().any(|s| s.track == *track));
            }
            Key::Subscription { receiver, track } => {
                self.forwarding.remove(&(*receiver, *track));
            }
            Key::DataTrack(_) | Key::DataSubscription { .. } | Key::Note(_) => {}
        }
    }

    /// How many states there are.
    pub(crate) fn len(&self) -> usize {
        let rows = self.transports.len() + self.channels.len() + self.started.len() + self.layers.len();
        rows + self.forwarding.len() + self.speakers.len()
    }

    /// All of it, as if it just happened.
    pub(crate) fn events(&self) -> Vec<Event> {
        let transports = self.transports.iter().map(|(t, s)| Event::Transport { transport: *t, state: s.clone() });
        let channels = self.channels.iter().flat_map(|(&transport, streams)| {
            streams.iter().map(move |(kind, stream)| Event::Channel { transport, kind, stream: Some(stream) })
        });
        let started = self.started.iter().map(|track| Event::TrackStarted { track: *track });
        let layers = self.layers.iter().map(|(t, live)| Event::Layers { track: *t, live: live.clone() });
        let forwarding = self.forwarding.iter().map(|((receiver, track), encoding)| Event::Forwarding {
            receiver: *receiver,
            track: *track,
            encoding: *encoding,
        });
        let speakers = self.speakers.iter().map(|(c, s)| Event::Speakers { call: *c, speakers: s.clone() });
        transports.chain(channels).chain(started).chain(layers).chain(forwarding).chain(speakers).collect()
    }
}
