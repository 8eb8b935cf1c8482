//! The forwarding core: packets in, packets out into lent slots, a table that says who gets what.
//!
//! One [`Forwarder`] belongs to one worker and knows no socket, clock, thread or lock: time, randomness and keys are
//! arguments. It has two verbs, [`Forwarder::input`] and [`Forwarder::poll`], and says when it wants to be polled next
//! ([`Forwarder::wake`]).

#![forbid(unsafe_code)]

mod counters;
pub mod limits;

use sluice_frames::{FrameId, Pool, Route, Tx};
use sluice_messages::{Entry, Event, Key, TransportId};
use sluice_srtp::KeyMaterial;
use sluice_wire::Micros;

pub use counters::Counters;
pub use limits::Config;

/// What a worker tells its forwarder.
#[derive(Debug)]
pub enum Input<'a> {
    /// Inserts or replaces a row. Notes are ignored.
    Put(&'a Entry),
    /// Removes a row and what depends on it.
    Remove(&'a Key),
    /// DTLS is done. A second one is a new association: the old keys are gone.
    Keys { transport: TransportId, keys: &'a KeyMaterial },
    /// ICE selected this 5-tuple: everything for the transport goes there.
    Route { transport: TransportId, route: Route },
    /// Consent is lost: nothing is sent until there is a route again.
    Unroute { transport: TransportId },
    /// SRTP or SRTCP from a 5-tuple that ICE validated for the transport. The frame is taken over.
    Datagram { transport: TransportId, frame: FrameId },
}

/// What a forwarder tells its worker, besides the packets it writes to transmit slots.
#[derive(Debug)]
pub enum Output {
    /// For the control plane.
    Event(Event),
}

/// All media state of one worker.
pub struct Forwarder {
    counters: Counters,
}

impl Forwarder {
    /// Makes all tables. `seed` is for sequence numbers and the like; anything unpredictable.
    pub fn new(config: Config, seed: u64) -> Forwarder {
        let _ = (config, seed);
        Forwarder { counters: Counters::default() }
    }

    /// Takes something in. Never fails: a packet that cannot be handled is counted, a row that does not fit is counted and,
    /// for a transport, reported as failed.
    pub fn input(&mut self, now: Micros, input: Input<'_>, pool: &mut Pool) {
        let _ = now;
        if let Input::Datagram { frame, .. } = input {
            pool.release(frame);
        }
    }

    /// Runs what is due and writes what is ready into transmit slots. Call it until it returns none: then nothing happens
    /// before the next input or [`Forwarder::wake`]. When `tx` has no slot left it returns too and continues next time.
    pub fn poll(&mut self, now: Micros, pool: &mut Pool, tx: &mut impl Tx) -> Option<Output> {
        let _ = (now, pool, tx);
        None
    }

    /// When [`Forwarder::poll`] wants to be called at the latest; [`Micros::NEVER`] if there is nothing to wait for.
    pub fn wake(&self) -> Micros {
        Micros::NEVER
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
