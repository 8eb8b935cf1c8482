//! Beside the packet path: one thread per worker for DTLS handshakes and data channels of that worker's transports, so that
//! a hundred joins do not stall media. Data of a call that lives on several workers goes from thread to thread (`pass.rs`).

mod data;
mod hub;
mod pass;
mod run;
mod tracks;

use sluice_messages::{
    CallId, DataKind, DataSubscription, DataTrack, DataTrackId, Failure, SendData, Transport, TransportId,
};
use sluice_srtp::KeyMaterial;

pub(crate) use hub::Hub;
pub(crate) use pass::{Passed, connect};
pub(crate) use run::SlowThread;

/// Orders from the link that wait. Beyond it the link waits, and control with it.
pub(crate) const ORDERS_MAX: usize = 1024;

/// Datagrams from the worker that wait, 2 KiB each. Raising it survives more handshakes at once; beyond it they are dropped
/// and the clients retransmit.
pub(crate) const DATAGRAMS_MAX: usize = 1024;

/// Results for the worker that wait. Beyond it the slow thread waits: nothing is lost, SCTP sends later.
pub(crate) const RESULTS_MAX: usize = 1024;

/// From the link.
pub(crate) enum Order {
    Put(Box<Transport>),
    Remove(TransportId),
    /// Bits of the other workers on which a call lives.
    Others {
        call: CallId,
        workers: u64,
    },
    PutTrack(DataTrack),
    RemoveTrack(DataTrackId),
    Subscribe(DataSubscription),
    Unsubscribe {
        receiver: TransportId,
        track: DataTrackId,
    },
    Send(SendData),
}

/// What a hub says.
pub(crate) enum Said {
    /// To the worker.
    Verdict(Verdict),
    /// To the slow threads of these bits.
    Pass { to: u64, passed: Passed },
}

/// For the worker.
pub(crate) enum Verdict {
    /// Send this to the transport's route.
    Datagram { transport: TransportId, bytes: Vec<u8> },
    /// The handshake is done.
    Keys { transport: TransportId, keys: KeyMaterial },
    /// A data channel was opened, or closed.
    Channel { transport: TransportId, kind: DataKind, stream: Option<u16> },
    /// The association is over.
    Closed { transport: TransportId, failure: Failure },
}
