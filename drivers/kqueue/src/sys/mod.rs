//! The system's kqueue, in terms that are the same everywhere.
//!
//! Each system's module provides:
//!
//! - `Queue`: `open() -> Result<Queue, Errno>` and
//!   `kevent(&self, changes: &[Entry], events: &mut [Entry], timeout: Option<Duration>) -> Result<usize, Errno>`, which
//!   makes the changes in order, then waits. A change that fails is an entry of `events` with an [`error`]; if there
//!   is no room for it, the call fails and the changes behind it are not made. A wait that a signal interrupts fails
//!   with `EINTR`, all changes made. `closes(&self, fd: BorrowedFd)` says that a descriptor is closed next.
//! - `Entry`: one change or event, `Copy`. Made by `add(fd, filter)` and `delete(fd, filter)`; read by `fd()`,
//!   `filter() -> Option<Filter>` (none for the waker), `error() -> Option<Errno>` for a failed change, `is_end()` for
//!   `EV_EOF`, `socket_error()` for the error that comes with it; `EMPTY`.
//! - `QueueWaker: Waker`: `new(&Queue) -> Result<QueueWaker, DriverError>` puts it into the queue, `is_cause(&Entry)`
//!   tells its events, `drain()` takes wakes back.
//!
//! [`error`]: Entry::error

/// The direction that an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filter {
    /// `EVFILT_READ`
    Read,
    /// `EVFILT_WRITE`
    Write,
}

core::cfg_select! {
    any(
        target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd",
        target_vendor = "apple",
    ) => {
        mod bsd;
        pub(crate) use bsd::{Entry, Queue};
    }
    any(target_os = "linux", target_os = "android") => {
        pub(crate) mod emulated;
        pub(crate) use emulated::{Entry, Queue};
    }
    _ => {
        compile_error!("this system has no kqueue");
    }
}

core::cfg_select! {
    // OpenBSD and NetBSD got EVFILT_USER late: releases without it are in use.
    any(target_os = "openbsd", target_os = "netbsd") => {
        mod pipe_waker;
        pub(crate) use pipe_waker::QueueWaker;
    }
    any(target_os = "freebsd", target_os = "dragonfly", target_vendor = "apple") => {
        mod user_waker;
        pub(crate) use user_waker::QueueWaker;
    }
    any(target_os = "linux", target_os = "android") => {
        mod either_waker;
        mod pipe_waker;
        mod user_waker;
        pub(crate) use either_waker::QueueWaker;
    }
    _ => {}
}
