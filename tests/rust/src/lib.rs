//! What end-to-end tests share: the server as a process, its HTTP side, LiveKit's signalling by hand, a client on an
//! independent WebRTC stack (str0m), and one that sends whatever a test wants to send.

#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod hostile;
pub mod network;
pub mod process;
pub mod signal;

use std::time::Duration;

/// How long anything may take before a test is red. Generous: machines that run tests are small and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);
