//! `select(2)` and its descriptor sets, with bounds checks.

use core::fmt;
use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::os::fd::RawFd;

use lightcone_unix::errno::Errno;
use lightcone_unix::syscall;

/// The number of descriptors that fit into a set.
pub(crate) const SET_SIZE: usize = libc::FD_SETSIZE;

/// The number that all descriptors in a set are below: [`SET_SIZE`] as a descriptor.
pub(crate) const SET_LIMIT: RawFd = {
    assert!(SET_SIZE <= 65_536);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "at most 65536, see above"
    )]
    {
        SET_SIZE as RawFd
    }
};

/// A set of descriptors below [`SET_LIMIT`].
#[derive(Clone, Copy)]
pub(crate) struct Set(libc::fd_set);

impl Set {
    pub(crate) fn new() -> Self {
        // SAFETY: a C struct of integers, for which all-zero bytes are a valid value: the empty set.
        Self(unsafe { MaybeUninit::zeroed().assume_init() })
    }

    /// Adds or removes a descriptor.
    ///
    /// # Panics
    ///
    /// If the descriptor does not fit, which is a bug in this crate.
    pub(crate) fn put(&mut self, fd: RawFd, member: bool) {
        assert!((0..SET_LIMIT).contains(&fd), "descriptor {fd} does not fit into a set of {SET_SIZE}");
        if member {
            // SAFETY: the descriptor fits, see above.
            unsafe { libc::FD_SET(fd, &raw mut self.0) };
        } else {
            // SAFETY: the descriptor fits, see above.
            unsafe { libc::FD_CLR(fd, &raw mut self.0) };
        }
    }

    /// Returns whether the descriptor is in the set; `false` if it does not fit.
    pub(crate) fn has(&self, fd: RawFd) -> bool {
        // SAFETY: the descriptor fits, as the first condition checks.
        (0..SET_LIMIT).contains(&fd) && unsafe { libc::FD_ISSET(fd, &raw const self.0) }
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..SET_LIMIT).filter(|fd| self.has(*fd))).finish()
    }
}

/// The maximum timeout. POSIX allows a system to refuse more than 31 days. One day is enough, since a wait may always
/// end early.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Waits, leaves the ready descriptors in the sets, and returns the number of members of both sets.
///
/// Descriptors above `max` are ignored.
pub(crate) fn select(
    max: RawFd,
    read: &mut Set,
    write: &mut Set,
    timeout: Option<Duration>,
) -> Result<usize, Errno> {
    let mut limit = timeout.map(interval);
    let limit = limit.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let (read, write) = (&raw mut read.0, &raw mut write.0);
    // SAFETY: the sets and the limit outlive the call, and the limit may be null. `max` is below the size of the sets.
    let ready = unsafe { syscall!(select(max + 1, read, write, ptr::null_mut(), limit)) }?;
    Ok(usize::try_from(ready).unwrap_or(0))
}

/// Converts a timeout, rounded up to microseconds.
fn interval(timeout: Duration) -> libc::timeval {
    let micros = timeout.min(LONGEST).as_nanos().div_ceil(1_000);
    libc::timeval {
        tv_sec: (micros / 1_000_000).try_into().unwrap_or(0),
        tv_usec: (micros % 1_000_000).try_into().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_members_up_to_their_size() {
        let mut set = Set::new();
        for fd in [0, 1, 63, 64, SET_LIMIT - 1] {
            assert!(!set.has(fd));
            set.put(fd, true);
            assert!(set.has(fd));
        }
        set.put(64, false);
        assert_eq!(format!("{set:?}"), format!("{{0, 1, 63, {}}}", SET_LIMIT - 1));
        assert!(!set.has(SET_LIMIT) && !set.has(-1));
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_descriptor_beyond_the_set_is_not_written() {
        Set::new().put(SET_LIMIT, true);
    }

    #[test]
    fn intervals_are_rounded_up_and_cut_to_a_day() {
        let parts = |timeout| (interval(timeout).tv_sec, interval(timeout).tv_usec);
        assert_eq!(parts(Duration::ZERO), (0, 0));
        assert_eq!(parts(Duration::from_nanos(1)), (0, 1));
        assert_eq!(parts(Duration::from_nanos(999_999_001)), (1, 0));
        assert_eq!(parts(Duration::from_micros(2_500_000)), (2, 500_000));
        assert_eq!(parts(Duration::MAX), (86_400, 0));
    }
}
