//! Which node a call goes to: pure functions of a view of the cluster, the room's name and what is asked for.
//!
//! Two controls with the same view give the same answer, in any process, on any machine and in any order of the nodes: there is
//! no clock, no randomness and no state here. With views that differ a little they mostly agree, and compare-and-set in the
//! store decides where they do not.
//!
//! - [`place`]: weighted rendezvous hashing, so that a node that comes or goes moves its own share only. Load is bounded: a
//!   node that would stand above [`BOUND_PERCENT`] of the mean is passed over. [`grow`] adds nodes to a call, [`backup`] names
//!   the one that takes over.
//! - [`span`] says over how many nodes a call shall spread, [`spread`] which of them a participant uses, [`regroup`] who moves
//!   after the call has grown.
//! - [`heal`]: calls that have to leave dead and drained nodes, and where they go.
//!
//! **The unit of load is one packet forwarded to a receiver per second** (`_pps`). That is what a node's cost grows with; packets that
//! arrive, and those relayed to another node of the call, are some percent of it and are left out. A node's capacity is what
//! it can send at the share of CPU that the operator gives it.

#![forbid(unsafe_code)]

mod heal;
mod place;
mod rank;
mod span;
mod view;

pub use heal::{Call, Healing, Move, Stranded, heal};
pub use place::{Ask, BOUND_PERCENT, PlaceError, QUIET_PERCENT, backup, grow, is_above_bound, place};
pub use span::{Membership, SPAN_MAX, Shift, regroup, span, spread};
pub use view::{Candidate, PPS_MAX, State, View};
