//! What end-to-end tests share: the server as a process, LiveKit's signalling by hand, and a client on an independent
//! WebRTC stack (str0m).

#![forbid(unsafe_code)]

pub mod client;
pub mod process;
pub mod signal;

use std::time::Duration;

/// How long anything may take before a test is red. Generous: machines that run tests are small and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);
