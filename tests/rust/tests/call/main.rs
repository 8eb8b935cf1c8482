//! Calls of clients on an independent WebRTC stack.

#![forbid(unsafe_code)]

mod loss;
mod pair;
mod spread;
