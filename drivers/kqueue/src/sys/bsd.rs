//! `kqueue(2)` of the BSDs and Apple's systems, which differ only in the types of fields.

extern crate alloc;

use alloc::sync::Arc;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use lightcone_unix::errno::Errno;
use lightcone_unix::syscall;

use super::Filter;

/// One change or event.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Entry(libc::kevent);

// SAFETY: the only pointer, `udata`, is always null: constructors do not set it, and the kernel returns it unchanged.
unsafe impl Send for Entry {}

/// The kernel's queue. Wakers share its ownership, so that its descriptor cannot be closed and reused while one exists.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<OwnedFd>);

impl Entry {
    pub(crate) const EMPTY: Self = {
        // SAFETY: a C struct of numbers and a pointer, for which all-zero bytes are a valid value.
        Self(unsafe { MaybeUninit::zeroed().assume_init() })
    };

    pub(crate) fn add(fd: RawFd, filter: Filter) -> Self {
        Self::change(fd, filter, libc::EV_ADD)
    }

    pub(crate) fn delete(fd: RawFd, filter: Filter) -> Self {
        Self::change(fd, filter, libc::EV_DELETE)
    }

    fn change(fd: RawFd, filter: Filter, flags: Flags) -> Self {
        let mut this = Self::EMPTY;
        // A descriptor is never negative.
        this.0.ident = libc::uintptr_t::try_from(fd).unwrap_or(libc::uintptr_t::MAX);
        this.0.filter = match filter {
            Filter::Read => libc::EVFILT_READ,
            Filter::Write => libc::EVFILT_WRITE,
        };
        this.0.flags = flags;
        this
    }

    pub(crate) fn fd(&self) -> RawFd {
        RawFd::try_from(self.0.ident).unwrap_or(-1)
    }

    pub(crate) const fn filter(&self) -> Option<Filter> {
        match self.0.filter {
            libc::EVFILT_READ => Some(Filter::Read),
            libc::EVFILT_WRITE => Some(Filter::Write),
            _ => None,
        }
    }

    pub(crate) fn error(&self) -> Option<Errno> {
        (self.0.flags & libc::EV_ERROR != 0).then(|| Errno(i32::try_from(self.0.data).unwrap_or(libc::EIO)))
    }

    pub(crate) const fn is_end(&self) -> bool {
        self.0.flags & libc::EV_EOF != 0
    }

    pub(crate) const fn socket_error(&self) -> bool {
        self.is_end() && self.0.fflags != 0
    }
}

/// The type of the field `flags`: 16 bits on most systems, 32 on NetBSD.
#[cfg(not(target_os = "netbsd"))]
type Flags = u16;
#[cfg(target_os = "netbsd")]
type Flags = u32;

/// Entries of `EVFILT_USER`, on the systems that have it.
#[cfg(not(any(target_os = "openbsd", target_os = "netbsd")))]
impl Entry {
    /// Creates a filter that other threads trigger. Several triggers make one event (`EV_CLEAR`).
    pub(crate) const fn add_user() -> Self {
        let mut this = Self::EMPTY;
        this.0.filter = libc::EVFILT_USER;
        this.0.flags = libc::EV_ADD | libc::EV_CLEAR;
        this
    }

    pub(crate) const fn trigger_user() -> Self {
        let mut this = Self::EMPTY;
        this.0.filter = libc::EVFILT_USER;
        this.0.fflags = libc::NOTE_TRIGGER;
        this
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Copied, because Apple's structure is packed and references to its fields are not allowed.
        let (ident, filter, flags) = (self.0.ident, self.0.filter, self.0.flags);
        write!(f, "{ident}: filter {filter}, flags {flags:#x}")
    }
}

impl Queue {
    pub(crate) fn open() -> Result<Self, Errno> {
        // SAFETY: `kqueue` takes no arguments.
        let fd = unsafe { syscall!(kqueue()) }?;
        // SAFETY: the call succeeded and created the descriptor, which has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        lightcone_unix::socket::close_on_exec(&fd)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Does nothing: the kernel deletes the filters of a closed descriptor, even if the socket is open elsewhere.
    pub(crate) const fn closes(&self, _fd: BorrowedFd<'_>) {}

    pub(crate) fn kevent(
        &self,
        changes: &[Entry],
        events: &mut [Entry],
        timeout: Option<Duration>,
    ) -> Result<usize, Errno> {
        let limit = timeout.map(interval);
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // The counts are a `size_t` on NetBSD and a C int elsewhere. A `u16` converts to both.
        let (adds, room) = (count_of(changes).into(), count_of(events).into());
        let (from, to) = (changes.as_ptr().cast(), events.as_mut_ptr().cast());
        // SAFETY: both lists have at least as many entries as their counts say, since `Entry` is transparent, and they
        // and the limit outlive the call.
        let seen = unsafe { syscall!(kevent(self.0.as_raw_fd(), from, adds, to, room, limit)) }?;
        Ok(usize::try_from(seen).unwrap_or(0))
    }
}

/// Returns the number of entries. The driver passes about a thousand at most; a longer list would be cut off.
fn count_of(entries: &[Entry]) -> CountOf {
    CountOf::try_from(entries.len()).unwrap_or(CountOf::MAX)
}
type CountOf = u16;

/// The maximum timeout. FreeBSD refuses timeouts of years. One day is enough, since a wait may always end early.
const LONGEST: Duration = Duration::from_secs(86_400);

fn interval(timeout: Duration) -> libc::timespec {
    let timeout = timeout.min(LONGEST);
    libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(0),
        tv_nsec: timeout.subsec_nanos().into(),
    }
}
