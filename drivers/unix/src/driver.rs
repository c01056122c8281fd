//! The contract between a poller and the readiness mechanism of an OS.
//!
//! A driver translates: it tells which sockets can be read or written, and holds no bytes, timers or policy. To bring
//! another mechanism, implement [`Driver`] and run the contract's tests (`lightcone-contract`) over it; the
//! [guide](#a-new-driver-step-by-step) below goes through it.
//!
//! # The rules
//!
//! Keys
//!
//! 1. The caller names a socket by a key of 64 bits, all values but [`KEY_RESERVED`] allowed. The driver gives it back
//!    and understands nothing of it.
//! 2. A key comes with [`register`](Driver::register) and stays the same until [`deregister`](Driver::deregister) or
//!    [`forget`](Driver::forget). The same descriptor may then come back with another key.
//!
//! Interest
//!
//! 3. The caller remembers what it watches and passes it along (`old`, `interest`), so a driver needs no table. Passing
//!    a wrong one is the caller's fault; its effect is unspecified.
//! 4. With [`Interest::NONE`] a socket is registered and silent: neither readiness nor errors nor hang-ups are
//!    reported, and waiting does not spin on them.
//! 5. A change holds from the next [`wait`](Driver::wait) on. A driver may collect changes until then.
//! 6. The descriptor stays open from `register` to `deregister` or `forget`. A driver keeps no trace of it afterwards:
//!    the number may be another socket's at once. Nothing is reported of the old one, also if the same socket stays
//!    open elsewhere: by a duplicate, or in a child process.
//!
//! Events
//!
//! 7. Level-triggered meaning: while a socket is ready in a direction that is watched, every wait reports it.
//! 8. An event is a hint: the call may still give "would block". The caller learns the truth, also of errors and of the
//!    end, from receive, send, accept or [`connect_result`](crate::socket::connect_result).
//! 9. An error or a hang-up is reported as ready in every direction that is watched, so that the caller makes the call
//!    that tells. The other direction and hint bits may be added. The end of the peer's stream alone is reported to
//!    those who watch reading, and to nobody else.
//! 10. A connect that has ended, well or badly, is reported as writable.
//! 11. A socket may occur twice in one batch, once for each direction.
//! 12. Events of sockets that were changed, deregistered or closed by the handling of an earlier event of the same
//!     batch are still in it: the caller compares the key's generation. No later batch has them.
//! 13. What does not fit into the caller's slice comes with a later wait, and no socket is left out for ever. A wait
//!     that leaves more than one place of the slice free has left none out (one may have been the waker's): a poller
//!     lets no timer fire while sockets may be left out.
//! 14. [`Readiness::LOST`] is the one bit that is no hint: the mechanism refused a collected change and no longer
//!     watches the socket.
//!
//! Waiting
//!
//! 15. A wait ends when there are events, when the waker woke, at the timeout or, rarely, for no reason. Zero events is
//!     normal.
//! 16. A timeout is never cut short by rounding: a mechanism that counts in milliseconds rounds up. One with a longest
//!     span returns early. `None` waits for ever, zero only looks.
//! 17. A signal is no error. It ends the wait, and the driver looks once more without waiting ([`look_again`]): a
//!     process that was stopped for a while must not take its sockets for idle.
//! 18. An error of a wait means that the driver is broken, not a socket.
//!
//! Waking
//!
//! 19. See [`Waker`]. The driver watches the waker itself and takes the wakes back within the wait. No event is
//!     reported for them.
//!
//! Costs
//!
//! 20. A wait costs by what is ready, where the mechanism can do that, and never grows with sockets that are registered
//!     without interest.
//! 21. Nothing is allocated after [`new`](Driver::new), except to grow with the number of sockets watched at once.
//! 22. In steady request and response traffic there is no call but the wait.
//!
//! # A new driver, step by step
//!
//! `drivers/contract/tests/example_poll/driver.rs` is a whole driver over `poll(2)`, about 130 lines, that passes both
//! suites. It is what these steps lead to.
//!
//! 1. **A type.** It owns what the mechanism needs (a descriptor of the kernel's, a list), a waker, and the place for
//!    the kernel's events. It is made by [`new`](Driver::new) on the thread that starts the engine, so it is `Send`.
//!    Whatever it will need is allocated there (rule 21).
//! 2. **The waker.** [`PipeWaker`](crate::waker::PipeWaker) works everywhere; Linux has
//!    [`EventFdWaker`](crate::waker::EventFdWaker). The driver watches it like any descriptor, under [`KEY_RESERVED`],
//!    and drains it in the wait when it is ready; it is never reported (rule 19).
//! 3. **`register`, `modify`, `deregister`.** What is registered is given by the caller each time, so that most drivers
//!    keep no table (rule 3). One that keeps a list, as `poll` must, takes a socket out of it when its interest is
//!    [`Interest::NONE`]: most mechanisms report errors whatever is asked for (rule 4). Refuse what can't be watched:
//!    `select` refuses descriptors beyond its sets. The defaults suffice for [`forget`](Driver::forget), which exists
//!    to spare a call where the kernel lets go of a closed descriptor by itself.
//! 4. **`wait`.** Round the timeout up ([`timeout_ms`], rule 16). After an interruption by a signal look once more
//!    ([`look_again`], rule 17). Translate: errors and hang-ups become readiness in every direction that is watched
//!    (rule 9), nothing is received or asked here (rule 8). If the caller's slice is short, go on behind the last event
//!    next time, so that nobody starves (rule 13).
//! 5. **The suites.** In the driver's tests, each in a file or module of its own:
//!
//!    ```text
//!    lightcone_contract::tests!(MyDriver);
//!    lightcone_conformance::tests!(MyDriver);
//!    ```
//!
//!    The first has a test for each rule that can be seen from outside; the second runs whole engines over the driver.
//!    A mechanism that the machine does not have is tried over an emulation of its calls, as `lightcone-kqueue` does on
//!    Linux.
//! 6. **An engine.** `Builder::<MyDriver>::new()` starts one: see [`Builder`](crate::Builder). To be the default of a
//!    platform, a driver is chosen in `lightcone-native` and nowhere else.
//!
//! Where nothing tells readiness (no operating system, or calls that complete later), this trait is not the way in:
//! drive a [`Shard`](lightcone_core::Shard) directly, as [`lightcone_core`]'s documentation shows.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};
use core::time::Duration;
use std::os::fd::{BorrowedFd, RawFd};

use crate::errno::Errno;
use crate::waker::Waker;

pub use lightcone_core::Interest;

/// The key that no socket may have: drivers use it for their waker.
pub const KEY_RESERVED: u64 = u64::MAX;

/// A readiness mechanism of an OS. The rules are in the [module's documentation](self).
///
/// A driver is made by the thread that starts the engine, where errors can be told, and then moves to its poller.
pub trait Driver: Sized + Send + fmt::Debug + 'static {
    /// What other threads hold to make [`wait`](Self::wait) return.
    type Waker: Waker;

    /// The mechanism's name, for reports and options.
    const NAME: &'static str;

    /// Descriptors must be below this number, where the mechanism has such a limit. An engine does not accept
    /// beyond it: connections wait until there is room. A connect or a listener beyond it is refused.
    const DESCRIPTORS_MAX: Option<RawFd> = None;

    /// Makes a driver whose waits bring up to `events_max` events (a driver may have a maximum of its own, of at least
    /// 1,024).
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    fn new(events_max: usize) -> Result<Self, DriverError>;

    /// The handle that wakes this driver. Each call gives a handle to the same waker.
    fn waker(&self) -> Self::Waker;

    /// Begins to watch a descriptor.
    ///
    /// # Errors
    ///
    /// When it cannot be watched: the mechanism is full, or the descriptor's number is beyond its limit. The
    /// descriptor is then not registered.
    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError>;

    /// Changes what is watched. `old == new` is allowed and free.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `ENOMEM`. What is watched then is unspecified: close the socket.
    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError>;

    /// Ends watching a descriptor that stays open.
    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest);

    /// Ends watching a descriptor that the caller closes next, before any wait. Closing is all that some mechanisms
    /// need, whatever duplicates of it there are, which saves a call. For `epoll` it is not: there a socket stays
    /// watched until its last duplicate is closed.
    fn forget(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.deregister(fd, key, interest);
    }

    /// Waits for readiness, for at most `timeout`, and writes the events from the start of `events`; gives their count.
    ///
    /// # Errors
    ///
    /// When the mechanism is broken; a poller cannot go on.
    ///
    /// # Panics
    ///
    /// May panic when `events` is empty.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError>;
}

/// Whether the driver can take a descriptor of this number at all.
///
/// # Errors
///
/// [`DriverError::DescriptorTooHigh`], which names the limit.
pub fn check_descriptor<D: Driver>(fd: RawFd) -> Result<(), DriverError> {
    match D::DESCRIPTORS_MAX {
        Some(limit) if fd >= limit => Err(DriverError::DescriptorTooHigh { driver: D::NAME, fd, limit }),
        _ => Ok(()),
    }
}

/// One socket's readiness, as a wait reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// The key that the socket was registered with.
    pub key: u64,
    /// What it is ready for, as far as is known.
    pub readiness: Readiness,
}

/// What was seen of a socket. `READ` and `WRITE` say which call to make; the others are hints on top.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Receive or accept; it may bring bytes, the end or an error.
    pub const READ: Self = Self(1);
    /// Send, or ask what became of the connect.
    pub const WRITE: Self = Self(2);
    /// Hint: the peer has ended its stream or all of the connection. Bytes may be there before the end.
    pub const ENDED: Self = Self(4);
    /// Hint: the socket has an error.
    pub const ERROR: Self = Self(8);
    /// Not a hint: the mechanism refused to watch the socket and will report nothing more. Close it.
    pub const LOST: Self = Self(16);

    /// Both directions, as errors and hang-ups are reported.
    pub const BOTH: Self = Self(3);

    /// There is something to receive or accept, or an error to learn.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// There is room to send, a connect has ended, or there is an error to learn.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// All bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This and the other.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// `bit` if `condition`, else nothing; without a branch.
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

/// Why a driver could not do as asked.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverError {
    /// The call that failed and how.
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
                write!(f, "{driver} takes descriptors below {limit} only, this one is {fd}")
            }
        }
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for DriverError {}

/// Waits by `wait`. If a signal interrupts it, looks once more without waiting, so that zero events mean that nothing
/// was ready.
///
/// # Errors
///
/// Whatever `wait` fails with, except `EINTR`.
pub fn look_again(
    timeout: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    const INTERRUPTED: Result<usize, Errno> = Err(Errno(libc::EINTR));
    let first = wait(timeout);
    let last = if first == INTERRUPTED { wait(Some(Duration::ZERO)) } else { first };
    if last == INTERRUPTED { Ok(0) } else { last }
}

/// A timeout for calls that count in milliseconds: rounded up, −1 for none, cut to 24 days.
///
/// Rounding down would end a wait before its deadline and then spin through the last millisecond.
#[must_use]
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
    fn milliseconds_are_rounded_up() {
        assert_eq!(timeout_ms(None), -1);
        assert_eq!(timeout_ms(Some(Duration::ZERO)), 0);
        assert_eq!(timeout_ms(Some(Duration::from_nanos(1))), 1);
        assert_eq!(timeout_ms(Some(Duration::from_millis(5))), 5);
        assert_eq!(timeout_ms(Some(Duration::from_nanos(5_000_001))), 6);
        assert_eq!(timeout_ms(Some(Duration::MAX)), libc::c_int::MAX);
    }
}
