//! Packet formats: parse and edit in place. No I/O, no clock, no allocation.

#![forbid(unsafe_code)]

pub mod time;

pub use time::Micros;
