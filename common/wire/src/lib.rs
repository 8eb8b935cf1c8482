//! Packet formats: parse and edit in place. No I/O, no clock, no allocation, and no panic on any input.

#![forbid(unsafe_code)]

pub mod av1;
pub mod exercise;
pub mod h264;
pub mod level;
pub mod red;
pub mod rtcp;
pub mod rtp;
pub mod sequence;
pub mod stun;
pub mod time;
pub mod vp8;
pub mod vp9;

mod bytes;

pub use rtp::{PacketClass, classify};
pub use time::Micros;
