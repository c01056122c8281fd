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
//! - `Entry: Change`: one change or event.
//! - `QueueWaker: Waker`: `new(&Queue) -> Result<QueueWaker, DriverError>` adds it to the queue, `is_cause(&Entry)`
//!   returns whether an entry is a wake-up, `drain()` consumes wake-ups.
//!
//! [`error`]: Change::error

use std::os::fd::RawFd;

use lightcone_unix::errno::Errno;

/// The direction of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filter {
    /// `EVFILT_READ`
    Read,
    /// `EVFILT_WRITE`
    Write,
}

/// One change or event.
pub(crate) trait Change: Copy {
    /// Creates an entry to fill a buffer with.
    fn empty() -> Self;

    /// Creates the change that adds a filter.
    fn add(fd: RawFd, filter: Filter) -> Self;

    /// Creates the change that deletes a filter.
    fn delete(fd: RawFd, filter: Filter) -> Self;

    /// Creates the change that adds a filter which other threads trigger (`EVFILT_USER`). Several triggers make one
    /// event (`EV_CLEAR`).
    #[cfg(not(any(target_os = "openbsd", target_os = "netbsd")))]
    fn add_user() -> Self;

    /// Creates the change that triggers this filter.
    #[cfg(not(any(target_os = "openbsd", target_os = "netbsd")))]
    fn trigger_user() -> Self;

    /// Returns the descriptor.
    fn fd(&self) -> RawFd;

    /// Returns the direction; `None` for `EVFILT_USER`.
    fn direction(&self) -> Option<Filter>;

    /// Returns the error of a failed change.
    fn error(&self) -> Option<Errno>;

    /// Returns whether the event has `EV_EOF`.
    fn is_end(&self) -> bool;

    /// Returns whether an error of the socket comes with `EV_EOF`.
    fn socket_error(&self) -> bool;
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
        #[expect(unsafe_code, reason = "a kernel takes descriptors as numbers, and so does the emulation")]
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
