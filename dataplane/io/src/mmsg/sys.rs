//! The system calls.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use crate::{Waker, socket};

/// Waits for sockets and the waker together.
pub(super) struct Wait {
    /// The waker, then the sockets, then what else ends a wait.
    entries: Vec<libc::pollfd>,
}

impl Wait {
    pub(super) fn new(sockets: &[UdpSocket], waker: &Waker, other: Option<RawFd>) -> Wait {
        let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let sockets = sockets.iter().map(|socket| entry(socket.as_raw_fd()));
        let others = other.into_iter().map(entry);
        Wait { entries: std::iter::once(entry(waker.descriptor())).chain(sockets).chain(others).collect() }
    }

    /// Waits at most `wait`, for the waker alone unless `receive`. A signal ends it early.
    pub(super) fn until(&mut self, wait: Duration, receive: bool) -> io::Result<()> {
        let entries = if receive { self.entries.len() } else { 1 };
        let timeout = libc::timespec {
            tv_sec: wait.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: wait.subsec_nanos().into(),
        };
        // SAFETY: needed to wait with better than millisecond resolution. The entries are a live vector, at least `entries`
        // long; the signal mask may be null.
        let ready =
            unsafe { libc::ppoll(self.entries.as_mut_ptr(), entries as libc::nfds_t, &timeout, std::ptr::null()) };
        if ready >= 0 {
            return Ok(());
        }
        for entry in &mut self.entries {
            entry.revents = 0;
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }

    pub(super) fn rung(&self) -> bool {
        self.entries[0].revents != 0
    }

    /// Whether the socket has datagrams or an error to collect.
    pub(super) fn readable(&self, socket: usize) -> bool {
        self.entries[1 + socket].revents != 0
    }
}

/// Resets the waker's eventfd. Called only after it was reported readable, so it does not block.
pub(super) fn drain(waker: &Waker) {
    let mut count = 0u64;
    // SAFETY: needed to read an eventfd into 8 writable bytes. Its only reader is the worker, so it is still readable.
    unsafe {
        libc::read(waker.descriptor(), (&raw mut count).cast(), size_of::<u64>());
    }
}

/// Receives without waiting; the number of datagrams, 0 if there are none.
///
/// # Safety
///
/// The first `count` headers are valid for writing, as is all memory they point to.
pub(super) unsafe fn receive(socket: &UdpSocket, headers: *mut libc::mmsghdr, count: usize) -> io::Result<usize> {
    // SAFETY: by this function's contract; a null timeout is allowed.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers,
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    if received >= 0 {
        return Ok(received as usize);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error().is_some_and(socket::passes) { Ok(0) } else { Err(error) }
}

/// Sends without waiting; how many of `count` were sent before the first refused one, or its errno if that was the first.
///
/// # Safety
///
/// The first `count` headers and all memory they point to are valid for reading.
pub(super) unsafe fn send(socket: &UdpSocket, headers: *mut libc::mmsghdr, count: usize) -> Result<usize, i32> {
    loop {
        // SAFETY: by this function's contract.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers,
                count as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if sent > 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error.raw_os_error().unwrap_or(0));
        }
    }
}
