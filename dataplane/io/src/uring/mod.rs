//! io_uring.

use std::{io, net::UdpSocket, time::Duration};

use sluice_frames::{Backend, Datagram, Pool, Route, Turn, Tx};

use crate::{Config, Mmsg, Waker};

/// The backend.
pub struct Uring(Mmsg);

impl Uring {
    /// Takes the worker's sockets; their order gives [`Route::socket`].
    pub fn new(sockets: Vec<UdpSocket>, config: &Config) -> io::Result<Uring> {
        Ok(Uring(Mmsg::new(sockets, config)?))
    }

    /// A handle with which any thread ends this backend's wait.
    pub fn waker(&self) -> Waker {
        self.0.waker()
    }
}

impl Tx for Uring {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.0.slot()
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        self.0.commit(bytes, to);
    }
}

impl Backend for Uring {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        self.0.turn(pool, wait, sink)
    }
}

/// Whether io_uring does what this backend needs: how it would run, or why not.
pub(crate) fn permitted() -> Result<String, String> {
    Err("it is not there yet".to_owned())
}
