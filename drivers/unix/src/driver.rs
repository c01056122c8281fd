//! The contract between a poller and the readiness mechanism of an OS.
//!
//! A driver only translates: it reports which sockets can be read or written, and holds no bytes, timers or policy. To
//! support another mechanism, implement [`Driver`] and run the contract's tests (`lightcone-contract`) over it, as the
//! [guide](#a-new-driver-step-by-step) below explains.
//!
//! # The rules
//!
//! Keys
//!
//! 1. The caller identifies a socket by a 64-bit key: any value except [`KEY_RESERVED`]. The driver returns it in
//!    events and does not interpret it.
//! 2. The key is set by [`register`](Driver::register) and stays the same until [`deregister`](Driver::deregister) or
//!    [`forget`](Driver::forget). After that, the same descriptor may be registered with another key.
//!
//! Interest
//!
//! 3. The caller keeps track of a socket's interest and passes it to each call (`old`, `interest`), so a driver needs
//!    no table. Passing a wrong one is a bug in the caller; the effect is unspecified.
//! 4. With [`Interest::NONE`] a socket is registered and silent: neither readiness nor errors nor hang-ups are
//!    reported, and none of them ends a wait.
//! 5. A change takes effect with the next [`wait`](Driver::wait). A driver may collect changes until then.
//! 6. The caller keeps the descriptor open from `register` to `deregister` or `forget`. After that, the driver keeps no
//!    trace of it: its number may be reused for another socket at once. Nothing is reported for the old socket, even if
//!    it stays open elsewhere, through a duplicate or in a child process.
//!
//! Events
//!
//! 7. Events are level-triggered: while a socket is ready in a watched direction, every wait reports it.
//! 8. An event is a hint: the call may still return "would block". Only the result of receive, send, accept or
//!    [`connect_result`](crate::socket::connect_result) is authoritative, also for errors and the end of the stream.
//! 9. An error or a hang-up is reported as readiness in every watched direction, so that the caller makes the call that
//!    returns it. The other direction and hint bits may be added. The end of the peer's stream alone is reported only
//!    if the socket is watched for reading.
//! 10. A connect that has succeeded or failed is reported as writable.
//! 11. A socket may occur twice in one batch, once for each direction.
//! 12. If handling an event changes, deregisters or closes a socket, the same batch may still contain stale events of
//!     that socket. The caller recognises them by the generation in the key. Later batches do not contain any.
//! 13. Events that do not fit into the caller's slice are reported by a later wait, and no socket is left out forever.
//!     If a wait leaves more than one place of the slice free, it has left no socket out (one place may have been taken
//!     by the waker). A poller relies on this: it fires no timers while sockets may have been left out.
//! 14. [`Readiness::LOST`] is the only bit that is not a hint: the mechanism refused a collected change and no longer
//!     watches the socket.
//!
//! Waiting
//!
//! 15. A wait ends when there are events, on a wake-up, at the timeout or, rarely, spuriously. Returning zero events is
//!     normal.
//! 16. Rounding never shortens a timeout: a mechanism that counts in milliseconds rounds up. A mechanism with a maximum
//!     timeout may return early. `None` waits indefinitely; zero polls without waiting.
//! 17. A signal is not an error. It ends the wait, and the driver polls once more without waiting ([`look_again`]):
//!     otherwise a process that was stopped for a while would treat sockets as idle although events are pending.
//! 18. An error from `wait` means that the driver itself is broken, not a socket.
//!
//! Waking
//!
//! 19. See [`Waker`]. The driver watches its own waker and consumes wake-ups within the wait. They are not reported as
//!     events.
//!
//! Costs
//!
//! 20. The cost of a wait depends on the number of ready sockets, where the mechanism allows that, and never on the
//!     number of sockets registered without interest.
//! 21. Nothing is allocated after [`new`](Driver::new), except to grow with the number of sockets watched at once.
//! 22. In steady request and response traffic, the driver makes no system call other than the wait.
//!
//! # A new driver, step by step
//!
//! `tests/contract/tests/example_poll/driver.rs` is a complete driver over `poll(2)`, about 130 lines, that passes
//! both test suites. It is the result of these steps.
//!
//! 1. **A type.** It owns what the mechanism needs (a kernel descriptor, a list), a waker, and the buffer for the
//!    kernel's events. [`new`](Driver::new) creates it on the thread that starts the engine, so it must be `Send`.
//!    Allocate there everything that does not grow with the number of sockets (rule 21).
//! 2. **The waker.** [`PipeWaker`](crate::waker::PipeWaker) works everywhere; Linux has
//!    [`EventFdWaker`](crate::waker::EventFdWaker). The driver watches it like any other descriptor, with the key
//!    [`KEY_RESERVED`], drains it in the wait when it is ready, and never reports it (rule 19).
//! 3. **`register`, `modify`, `deregister`.** The caller passes the current interest each time, so most drivers keep no
//!    table (rule 3). A driver that keeps a list, as `poll` must, removes a socket from it when its interest becomes
//!    [`Interest::NONE`], because most mechanisms report errors regardless of interest (rule 4). Refuse descriptors
//!    that cannot be watched: `select`, for example, refuses those beyond its sets. The default
//!    [`forget`](Driver::forget) is sufficient; override it to save a call where the kernel drops a closed descriptor
//!    automatically.
//! 4. **`wait`.** Round the timeout up ([`timeout_ms`], rule 16). After an interruption by a signal, poll once more
//!    ([`look_again`], rule 17). Translate errors and hang-ups into readiness in every watched direction (rule 9), and
//!    make no calls on the sockets themselves (rule 8). If the caller's slice is too short, continue after the last
//!    reported event next time, so that no socket starves (rule 13).
//! 5. **The test suites.** In the driver's tests, each in a separate file or module:
//!
//!    ```text
//!    lightcone_contract::tests!(MyDriver);
//!    lightcone_conformance::tests!(MyDriver);
//!    ```
//!
//!    The first has a test for each rule that can be observed from outside; the second runs complete engines over the
//!    driver. A mechanism that the machine lacks can be tested over an emulation of its calls, as `lightcone-kqueue`
//!    does on Linux.
//! 6. **An engine.** `Builder::<MyDriver>::new()` sets one up: see [`Builder`](crate::Builder). The default driver of a
//!    platform is selected in `lightcone` and nowhere else.
//!
//! [`Driver`] requires a readiness mechanism. Without one (no operating system, or calls that complete later),
//! implement a [`Transport`](lightcone_core::poller::Transport), as [`lightcone_core`]'s documentation shows.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};
use core::time::Duration;
use std::os::fd::{BorrowedFd, RawFd};

use crate::errno::Errno;
use crate::waker::Waker;

pub use lightcone_core::Interest;

/// The key that drivers use for their waker. No socket may have it.
pub const KEY_RESERVED: u64 = u64::MAX;

/// A readiness mechanism of an OS. The [module's documentation](self) lists the rules.
///
/// A driver is created on the thread that starts the engine, which can return errors to the program, and then moves to
/// its poller's thread.
pub trait Driver: Sized + Send + fmt::Debug + 'static {
    /// The handle with which other threads make [`wait`](Self::wait) return.
    type Waker: Waker;

    /// The mechanism's name, for reports and options.
    const NAME: &'static str;

    /// The exclusive upper limit of descriptor numbers, if the mechanism has one. An engine accepts no connection whose
    /// descriptor would reach it: such connections wait until there is room. A connect or a listener beyond it is
    /// refused.
    const DESCRIPTORS_MAX: Option<RawFd> = None;

    /// Creates a driver whose waits return up to `events_max` events. A driver may lower that to its own maximum, which
    /// is at least 1,024.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    fn new(events_max: usize) -> Result<Self, DriverError>;

    /// Returns a handle that wakes this driver. All handles belong to the same waker.
    fn waker(&self) -> Self::Waker;

    /// Begins to watch a descriptor.
    ///
    /// # Errors
    ///
    /// If it cannot be watched: the mechanism is full, or the descriptor's number is beyond its limit. The descriptor
    /// is then not registered.
    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError>;

    /// Changes the interest in a descriptor. If `old == new`, nothing is done.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `ENOMEM`. The interest is then unspecified: close the socket.
    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError>;

    /// Stops watching a descriptor that stays open.
    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest);

    /// Stops watching a descriptor that the caller closes next, before any wait.
    ///
    /// Some mechanisms stop watching a descriptor when it is closed, even if duplicates of it are open; they can save a
    /// call here. `epoll` cannot: it watches a socket until its last duplicate is closed.
    fn forget(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.deregister(fd, key, interest);
    }

    /// Waits for readiness for at most `timeout`, writes events to the start of `events`, and returns their number.
    ///
    /// # Errors
    ///
    /// If the mechanism is broken. The poller cannot continue.
    ///
    /// # Panics
    ///
    /// May panic if `events` is empty.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError>;
}

/// Checks that a descriptor's number is within the driver's limit.
///
/// # Errors
///
/// [`DriverError::DescriptorTooHigh`], which contains the limit.
pub fn check_descriptor<D: Driver>(fd: RawFd) -> Result<(), DriverError> {
    match D::DESCRIPTORS_MAX {
        Some(limit) if fd >= limit => Err(DriverError::DescriptorTooHigh { driver: D::NAME, fd, limit }),
        _ => Ok(()),
    }
}

/// The readiness of one socket, as reported by a wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Event {
    /// The key with which the socket was registered.
    pub key: u64,
    /// What it is ready for, as far as the mechanism reports it.
    pub readiness: Readiness,
}

/// A set of readiness bits. `READ` and `WRITE` say which call to make; `ENDED` and `ERROR` are additional hints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// No readiness.
    pub const NONE: Self = Self(0);
    /// Receive or accept. The call may return bytes, the end of the stream or an error.
    pub const READ: Self = Self(1);
    /// Send, or query the result of the connect.
    pub const WRITE: Self = Self(2);
    /// Hint: the peer has closed its stream or the whole connection. Bytes may precede the end.
    pub const ENDED: Self = Self(4);
    /// Hint: the socket has an error.
    pub const ERROR: Self = Self(8);
    /// Not a hint: the mechanism refused to watch the socket and will report nothing more. Close it.
    pub const LOST: Self = Self(16);

    /// Both directions. Errors and hang-ups are reported this way.
    pub const BOTH: Self = Self(3);

    /// Returns whether to receive or accept: bytes, a connection or an error may be pending.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// Returns whether to send, or to query the result of the connect.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// Returns whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns `bit` if `condition` is true, else [`NONE`](Self::NONE). Branch-free.
    #[must_use]
    pub const fn when(condition: bool, bit: Self) -> Self {
        Self(bit.0 * condition as u8)
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READ, "READ"),
            (Self::WRITE, "WRITE"),
            (Self::ENDED, "ENDED"),
            (Self::ERROR, "ERROR"),
            (Self::LOST, "LOST"),
        ];
        let mut separator = "";
        for (_, name) in names.iter().filter(|(bit, _)| self.contains(*bit)) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        if *self == Self::NONE { f.write_str("NONE") } else { Ok(()) }
    }
}

/// The error of a driver's operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriverError {
    /// The system call that failed, and its error.
    Os(&'static str, Errno),
    /// The descriptor's number is not below the mechanism's limit.
    DescriptorTooHigh {
        /// The mechanism's name.
        driver: &'static str,
        /// The descriptor that was refused.
        fd: RawFd,
        /// The limit.
        limit: RawFd,
    },
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(call, errno) => write!(f, "{call}: {errno}"),
            Self::DescriptorTooHigh { driver, fd, limit } => {
                write!(f, "{driver} supports only descriptors below {limit}, this one is {fd}")
            }
        }
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for DriverError {}

/// Calls `wait`. If a signal interrupts it, calls it once more with a timeout of zero, so that a result of zero events
/// means that nothing was ready (unless the second call is interrupted as well).
///
/// # Errors
///
/// Any error of `wait` except `EINTR`.
pub fn look_again(
    timeout: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    const INTERRUPTED: Result<usize, Errno> = Err(Errno(libc::EINTR));
    let first = wait(timeout);
    let last = if first == INTERRUPTED { wait(Some(Duration::ZERO)) } else { first };
    if last == INTERRUPTED { Ok(0) } else { last }
}

/// Converts a timeout to milliseconds for a system call: rounded up, at most 24 days, and −1 for `None`.
///
/// If it were rounded down, a wait would end before its deadline and the poller would spin through the last
/// millisecond.
#[must_use]
#[inline]
pub fn timeout_ms(timeout: Option<Duration>) -> libc::c_int {
    let Some(timeout) = timeout else { return -1 };
    let up = u64::from(timeout.subsec_nanos().div_ceil(1_000_000));
    let ms = timeout.as_secs().saturating_mul(1_000).saturating_add(up);
    libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_print_their_names() {
        assert_eq!(format!("{:?}", Readiness::NONE), "NONE");
        let seen = Readiness::READ | Readiness::ENDED | Readiness::LOST;
        assert_eq!(format!("{seen:?}"), "READ | ENDED | LOST");
    }

    #[test]
    fn readiness_is_a_set() {
        assert_eq!(Readiness::when(true, Readiness::ERROR), Readiness::ERROR);
        assert_eq!(Readiness::when(false, Readiness::ERROR), Readiness::NONE);
        assert_eq!(Readiness::READ | Readiness::WRITE, Readiness::BOTH);
        assert!((Readiness::BOTH | Readiness::ENDED).contains(Readiness::ENDED));
        assert!(!Readiness::READ.contains(Readiness::BOTH));
    }

    #[test]
    fn the_systems_error_is_in_the_text() {
        let errno = Errno(libc::ENOSPC);
        assert_eq!(DriverError::Os("epoll_ctl", errno).to_string(), format!("epoll_ctl: {errno}"));
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        assert_eq!(timeout_ms(None), -1);
        assert_eq!(timeout_ms(Some(Duration::ZERO)), 0);
        assert_eq!(timeout_ms(Some(Duration::from_nanos(1))), 1);
        assert_eq!(timeout_ms(Some(Duration::from_millis(5))), 5);
        assert_eq!(timeout_ms(Some(Duration::from_nanos(5_000_001))), 6);
        assert_eq!(timeout_ms(Some(Duration::MAX)), libc::c_int::MAX);
    }
}
