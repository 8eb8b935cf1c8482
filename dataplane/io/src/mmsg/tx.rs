//! Sending what was committed, in the order it was committed. `uring` sends in this way too.

use std::{io, net::UdpSocket};

use sluice_frames::{Route, Turn};

use super::sys;
use crate::runs::Runs;

pub(crate) struct Transmit {
    runs: Runs,
}

impl Transmit {
    pub(crate) fn new(families: &[bool], slots: usize, segments_max: usize) -> io::Result<Transmit> {
        Ok(Transmit { runs: Runs::new(slots, families, segments_max)? })
    }

    pub(crate) fn room(&self) -> usize {
        self.runs.room()
    }

    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        self.runs.slot()
    }

    pub(crate) fn commit(&mut self, bytes: usize, to: Route) {
        self.runs.commit(bytes, to);
    }

    /// One system call per sequence of runs through the same socket, and one more per refused run.
    pub(crate) fn flush(&mut self, sockets: &[UdpSocket], turn: &mut Turn) {
        let count = self.runs.count();
        (0..count).for_each(|run| self.runs.describe(run));
        let mut next = 0;
        while next < count {
            let socket = self.runs.socket(next);
            let batch = (next..count).take_while(|&run| self.runs.socket(run) == socket).count();
            // SAFETY: these runs were described just now, and the call is over when it returns.
            match unsafe { sys::send(&sockets[socket], self.runs.header(next), batch) } {
                Ok(sent) => {
                    (next..next + sent).for_each(|run| self.runs.sent(run, turn));
                    next += sent;
                }
                Err(errno) => {
                    self.runs.refused(next, &sockets[socket], errno, turn);
                    next += 1;
                }
            }
        }
        self.runs.clear();
    }
}
