//! Rooms as their clients, the node and the API see them.

mod api;
mod codecs;
mod datatrack;
mod join;
mod media;
mod options;
mod publish;
mod relocate;
mod restart;
mod resume;
mod scale;
mod scenarios;
mod tracks;
mod world;
