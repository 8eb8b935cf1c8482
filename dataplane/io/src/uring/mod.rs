//! io_uring for what it is good at: one system call sets receives up and waits for all of them with a timeout. What was
//! committed leaves by sendmmsg before that, as with [`Mmsg`](crate::Mmsg): a send through the ring was measured at a tenth
//! more (`benches/RESULTS.md`), since the kernel imports each message anew.
//!
//! Receives are multishot: one request per socket, and the kernel picks a frame for each datagram from a ring of frames
//! lent to it. In front of the datagram it writes a header and the sender's address, into the frame's headroom. Each turn
//! lends new frames for those handed over.
//!
//! # Memory the kernel may touch
//!
//! Requests outlive the turn that made them, so two things must stay where they are until the kernel is done: lent frames
//! (their [`Memory`](sluice_frames::Memory) is kept, and the pool refuses access to them), and the buffer that the waker's
//! count is read into. Both belong to [`rx::Receive`]. Closing or dropping the backend cancels every request and waits until
//! the kernel has reported each of them as ended; only then is that memory let go. Should the kernel not do so in time (it has no reason to, except when a
//! backend that ran on one thread is dropped on another, which the kernel refuses to serve), the memory is leaked instead.

mod rx;
mod sys;

use std::{io, mem::ManuallyDrop, net::UdpSocket, time::Duration};

use io_uring::{IoUring, cqueue};
use sluice_frames::{Backend, Datagram, Pool, Route, Turn, Tx};
use sys::Request;

use crate::{Config, Waker, address, mmsg::tx};

/// How long a request may take to end after it was cancelled, and how often that is waited for.
const END_WAIT: Duration = Duration::from_millis(50);
const END_ATTEMPTS: usize = 20;

/// The backend. Its first turn binds it to that thread.
pub struct Uring {
    ring: IoUring,
    waker: Waker,
    /// Whether requests may have been submitted.
    running: bool,
    sockets: Vec<UdpSocket>,
    transmit: tx::Transmit,
    // Dropped by hand, once the kernel is done with what it owns.
    receive: ManuallyDrop<rx::Receive>,
}

impl Uring {
    /// Takes the worker's sockets; their order gives [`Route::socket`].
    pub fn new(sockets: Vec<UdpSocket>, config: &Config) -> io::Result<Uring> {
        config.check()?;
        let families = address::families(&sockets)?;
        let (ring, _) = sys::open(sockets.len(), config)?;
        let waker = Waker::new()?;
        let receive = ManuallyDrop::new(rx::Receive::new(&ring, &sockets, &waker, config.receive_frames)?);
        let transmit = tx::Transmit::new(&families, config.transmit_slots, config.segments_max)?;
        Ok(Uring { ring, waker, running: false, sockets, transmit, receive })
    }

    /// A handle with which any thread ends this backend's wait.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Cancels everything and waits for the end of it; whether the kernel is done with all memory.
    fn stop(&mut self) -> bool {
        if !self.running {
            return true;
        }
        if sys::cancel(&mut self.ring).is_err() {
            return false;
        }
        for _ in 0..END_ATTEMPTS {
            for completion in self.ring.completion() {
                match Request::of(&completion) {
                    Request::Receive(socket) if !cqueue::more(completion.flags()) => self.receive.ended(socket),
                    Request::Listen => self.receive.unlisten(),
                    Request::Receive(_) | Request::Cancel => {}
                }
            }
            if self.receive.is_quiet() {
                self.running = false;
                return true;
            }
            if sys::enter(&self.ring, 1, END_WAIT).is_err() {
                return false;
            }
        }
        false
    }
}

impl Tx for Uring {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.transmit.slot()
    }

    fn room(&self) -> usize {
        self.transmit.room()
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        self.transmit.commit(bytes, to);
    }
}

impl Backend for Uring {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        let mut turn = Turn::default();
        if !self.running {
            sys::enable(&self.ring)?;
            self.running = true;
        }
        self.transmit.flush(&self.sockets, &mut turn);
        self.receive.prepare(&mut self.ring, pool, &mut turn)?;
        sys::enter(&self.ring, 1, wait)?;
        for completion in self.ring.completion() {
            match Request::of(&completion) {
                Request::Receive(socket) => self.receive.completed(socket, &completion, pool, &mut turn, sink)?,
                Request::Listen => {
                    self.receive.unlisten();
                    turn.woken |= self.waker.heard();
                }
                Request::Cancel => {}
            }
        }
        Ok(turn)
    }

    fn close(&mut self, pool: &mut Pool) {
        if self.stop() {
            self.receive.give_back(&self.ring, pool);
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.stop() {
            // SAFETY: needed to free only what the kernel is done with. This is the only place that drops it, once, and nothing
            // uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.receive) };
        }
    }
}

/// Whether io_uring does what this backend needs, by sending and receiving a datagram: how it would run, or why not.
pub(crate) fn permitted() -> Result<String, String> {
    sys::open(1, &TRIAL).map_err(|error| sys::explain(&error)).and_then(|(_, how)| {
        try_loopback().map_err(|error| sys::explain(&error))?;
        Ok(how.to_owned())
    })
}

/// What a trial sets aside: little.
const TRIAL: Config = Config { receive_frames: 4, transmit_slots: 4, segments_max: 1 };

fn try_loopback() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let to = Route { socket: 0, peer: socket.local_addr()? };
    let mut pool = Pool::new(TRIAL.receive_frames)?;
    let mut uring = Uring::new(vec![socket], &TRIAL)?;
    uring.commit(1, to);
    for _ in 0..2 {
        let turn =
            uring.turn(&mut pool, Duration::from_millis(100), &mut |pool, datagram| pool.release(datagram.frame))?;
        if turn.received == 1 {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "a datagram sent to itself did not come back"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Option<(Uring, Pool, Route)> {
        if let Err(reason) = permitted() {
            println!("skipped: {reason}");
            return None;
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = Route { socket: 0, peer: socket.local_addr().unwrap() };
        Some((Uring::new(vec![socket], &TRIAL).unwrap(), Pool::new(16).unwrap(), to))
    }

    fn release(pool: &mut Pool, datagram: Datagram) {
        pool.release(datagram.frame);
    }

    #[test]
    fn stopping_ends_every_request() {
        let Some((mut uring, mut pool, to)) = start() else { return };
        uring.turn(&mut pool, Duration::ZERO, &mut release).unwrap();
        assert!(!uring.receive.is_quiet(), "a receive and the waker's read are under way");
        // A datagram is already there.
        uring.commit(3, to);
        uring.transmit_only();
        assert!(uring.stop(), "the kernel reports the end of all of them");
        assert!(uring.receive.is_quiet());
        assert!(uring.turn(&mut pool, Duration::ZERO, &mut release).is_err(), "there is no way back");
        uring.close(&mut pool);
        assert_eq!(pool.free(), pool.capacity());
    }

    #[test]
    fn an_ended_receive_is_set_up_again_and_counted() {
        let Some((mut uring, mut pool, to)) = start() else { return };
        let mut total = Turn::default();
        // Twice as many as frames are lent: the kernel runs out of them within a turn.
        for _ in 0..2 * TRIAL.receive_frames {
            if uring.slot().is_none() {
                uring.transmit_only();
            }
            uring.commit(1, to);
        }
        while total.received < 2 * TRIAL.receive_frames {
            let turn = uring.turn(&mut pool, Duration::from_secs(1), &mut release).unwrap();
            assert!(turn.received + turn.starved > 0, "{total:?}");
            total.received += turn.received;
            total.rearmed += turn.rearmed;
            total.starved += turn.starved;
        }
        assert!(total.rearmed > 0 && total.starved > 0, "{total:?}");
        uring.close(&mut pool);
        assert_eq!(pool.free(), pool.capacity());
    }

    impl Uring {
        /// Sends what was committed without receiving anything.
        fn transmit_only(&mut self) {
            self.transmit.flush(&self.sockets, &mut Turn::default());
        }
    }
}
