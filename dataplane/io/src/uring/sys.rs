//! The ring and the calls that move it.

use std::{io, time::Duration};

use io_uring::{
    IoUring, cqueue, opcode,
    squeue::Entry,
    types::{CancelBuilder, SubmitArgs, Timespec},
};

use crate::Config;

/// Completions that fit the ring, as a multiple of the submissions that do: a multishot request completes many times.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;

/// `IORING_ENTER_GETEVENTS`: look for completions even if none is waited for.
const ENTER_GETEVENTS: u32 = 1;

/// Longest wait handed to the kernel, far beyond any worker's.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What a completion is for: kept in the 64 bits that the kernel hands back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// Receiving from this socket.
    Receive(u8),
    /// Reading the waker.
    Listen,
    Cancel,
}

impl Request {
    /// Kinds are kept in the upper half, the number in the lower.
    pub(super) fn number(self) -> u64 {
        match self {
            Request::Receive(socket) => u64::from(socket),
            Request::Listen => 1 << 32,
            Request::Cancel => 2 << 32,
        }
    }

    pub(super) fn of(completion: &cqueue::Entry) -> Request {
        let number = completion.user_data();
        match number >> 32 {
            0 => Request::Receive(number as u8),
            1 => Request::Listen,
            _ => Request::Cancel,
        }
    }
}

/// Makes a ring with room for every request that may be under way, and says how it runs. It does nothing until
/// [enabled](enable), so that it can be made on one thread and belong to another.
pub(super) fn open(sockets: usize, config: &Config) -> io::Result<(IoUring, &'static str)> {
    // One per socket, the waker, the cancellation.
    let submissions = (sockets + 2).next_power_of_two() as u32;
    let completions = (submissions * COMPLETIONS_PER_SUBMISSION)
        .max((config.receive_frames + submissions as usize).next_power_of_two() as u32);
    let builder = || {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_r_disabled().setup_cqsize(completions);
        builder
    };
    // The best first; older kernels refuse what they do not know.
    let deferred = builder().setup_submit_all().setup_single_issuer().setup_defer_taskrun().build(submissions);
    if let Ok(ring) = deferred {
        return check(ring).map(|ring| (ring, "one thread per ring, completions only when it asks"));
    }
    let cooperative = builder().setup_submit_all().setup_coop_taskrun().build(submissions);
    if let Ok(ring) = cooperative {
        return check(ring).map(|ring| (ring, "completions between system calls, as the kernel cannot defer them"));
    }
    check(builder().build(submissions)?).map(|ring| (ring, "completions interrupt, as the kernel knows no other way"))
}

/// Refuses a kernel that cannot wait with a timeout or might lose completions.
fn check(ring: IoUring) -> io::Result<IoUring> {
    if ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop() {
        Ok(ring)
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// Binds the ring to this thread and lets it run.
pub(super) fn enable(ring: &IoUring) -> io::Result<()> {
    ring.submitter().register_enable_rings()
}

/// Queues a request.
///
/// # Safety
///
/// Whatever the request points to stays valid, and is not written (or, if the kernel writes there, not read either), until
/// its last completion.
pub(super) unsafe fn push(ring: &mut IoUring, entry: &Entry) {
    // SAFETY: by this function's contract.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.expect("the queue has room for every request that can be under way (see `open`)");
}

/// Submits what is queued and waits at most `wait` for `completions` of them to be there.
pub(super) fn enter(ring: &IoUring, completions: usize, wait: Duration) -> io::Result<()> {
    let submitter = ring.submitter();
    let result = if wait.is_zero() {
        // SAFETY: needed because the library asks the kernel for completions only if it is to wait for some, and deferred
        // ones would never come. Every entry was pushed under the contract of `push`; no argument is passed.
        let queued = unsafe { ring.submission_shared() }.len() as u32;
        // SAFETY: as above.
        unsafe { submitter.enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None) }
    } else {
        let timeout = Timespec::from(wait.min(WAIT_MAX));
        submitter.submit_with_args(completions, &SubmitArgs::new().timespec(&timeout))
    };
    match result {
        Ok(_) => Ok(()),
        // The time is over, a signal came, or the kernel is short of memory or of room for completions: what is there is
        // looked at, and the rest is submitted next time.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Asks the kernel to end every request.
pub(super) fn cancel(ring: &mut IoUring) -> io::Result<()> {
    let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(Request::Cancel.number());
    // SAFETY: this request points to nothing.
    unsafe { push(ring, &entry) };
    enter(ring, 1, Duration::ZERO)
}

/// Says what an error at set-up means for whoever runs this.
pub(super) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here (kernel.io_uring_disabled, or a seccomp policy as in most containers)"
                .to_owned()
        }
        Some(libc::ENOSYS) => "the kernel has no io_uring, or a seccomp policy hides it".to_owned(),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "the kernel's io_uring lacks multishot receives into provided buffers (6.0 or later has them)".to_owned()
        }
        Some(libc::ENOMEM) => "locked memory is limited too low for io_uring (ulimit -l)".to_owned(),
        _ => format!("io_uring does not work: {error}"),
    }
}
