//! What bad input gets: every line of it, asserted from outside on a real server.

#![forbid(unsafe_code)]

mod configuration;
mod datagrams;
mod descriptions;
mod floods;
mod messages;
mod participants;
mod slow;
mod tokens;
mod unreachable;
