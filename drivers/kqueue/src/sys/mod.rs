//! The system's kqueue, with the same interface on all systems.
//!
//! The module of each system provides:
//!
//! - `Queue`: `open() -> Result<Queue, Errno>` and
//!   `kevent(&self, changes: &[Entry], events: &mut [Entry], timeout: Option<Duration>) -> Result<usize, Errno>`, which
//!   makes the changes in order, then waits. A failed change becomes an entry of `events` with an [`error`]; if there
//!   is no room for it, the call fails and the changes after it are not made. A wait that a signal interrupts fails
//!   with `EINTR`, after all changes have been made. `closes(&self, fd: BorrowedFd)` must be called before a descriptor
//!   is closed.
//! - `Entry`: one change or event, `Copy`. Created by `add(fd, filter)` and `delete(fd, filter)`, and `EMPTY`; read
//!   with `fd()`, `filter() -> Option<Filter>` (`None` for the waker's `EVFILT_USER`), `error() -> Option<Errno>` for a
//!   failed change, `is_end()` for `EV_EOF`, and `socket_error()` for an error that comes with it.
//! - `QueueWaker: Waker`: `new(&Queue) -> Result<QueueWaker, DriverError>` adds it to the queue, `is_cause(&Entry)`
//!   returns whether an entry is a wake-up, `drain()` consumes wake-ups.
//!
//! [`error`]: Entry::error

/// The direction of an entry.
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
    // OpenBSD and NetBSD added EVFILT_USER late, and releases without it are still in use.
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
