//! The forwarder between invented peers with real keys, in invented time.

mod allocations;
mod crossing;
mod flood;
mod net;
mod nodes;
mod pacing;
mod random;
mod relay;
mod repair;
mod support;
mod video;
mod viewer;
