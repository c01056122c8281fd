//! `kqueue(2)` of the BSDs and Apple's systems.

extern crate alloc;

use alloc::sync::Arc;
use core::time::Duration;
use std::os::fd::{BorrowedFd, RawFd};

use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

use lightcone_unix::errno::Errno;

use super::{Change, Filter};

pub(crate) type Entry = KEvent;

/// The kernel's queue. Wakers share its ownership, so that its descriptor cannot be closed and reused while one exists.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Kqueue>);

/// Creates an entry for a descriptor.
fn entry(fd: RawFd, filter: Filter, flags: EvFlags) -> Entry {
    // A descriptor is never negative.
    let ident = libc::uintptr_t::try_from(fd).unwrap_or(libc::uintptr_t::MAX);
    let filter = match filter {
        Filter::Read => EventFilter::EVFILT_READ,
        Filter::Write => EventFilter::EVFILT_WRITE,
    };
    KEvent::new(ident, filter, flags, FilterFlag::empty(), 0, 0)
}

impl Change for Entry {
    fn empty() -> Self {
        entry(0, Filter::Read, EvFlags::empty())
    }

    fn add(fd: RawFd, filter: Filter) -> Self {
        entry(fd, filter, EvFlags::EV_ADD)
    }

    fn delete(fd: RawFd, filter: Filter) -> Self {
        entry(fd, filter, EvFlags::EV_DELETE)
    }

    #[cfg(not(any(target_os = "openbsd", target_os = "netbsd")))]
    fn add_user() -> Self {
        let flags = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
        Self::new(0, EventFilter::EVFILT_USER, flags, FilterFlag::empty(), 0, 0)
    }

    #[cfg(not(any(target_os = "openbsd", target_os = "netbsd")))]
    fn trigger_user() -> Self {
        Self::new(0, EventFilter::EVFILT_USER, EvFlags::empty(), FilterFlag::NOTE_TRIGGER, 0, 0)
    }

    fn fd(&self) -> RawFd {
        RawFd::try_from(self.ident()).unwrap_or(-1)
    }

    fn direction(&self) -> Option<Filter> {
        match self.filter() {
            Ok(EventFilter::EVFILT_READ) => Some(Filter::Read),
            Ok(EventFilter::EVFILT_WRITE) => Some(Filter::Write),
            _ => None,
        }
    }

    fn error(&self) -> Option<Errno> {
        let failed = self.flags().contains(EvFlags::EV_ERROR);
        failed.then(|| Errno(i32::try_from(self.data()).unwrap_or(libc::EIO)))
    }

    fn is_end(&self) -> bool {
        self.flags().contains(EvFlags::EV_EOF)
    }

    fn socket_error(&self) -> bool {
        self.is_end() && !self.fflags().is_empty()
    }
}

impl Queue {
    pub(crate) fn open() -> Result<Self, Errno> {
        let queue = Kqueue::new().map_err(own)?;
        lightcone_unix::socket::close_on_exec(&queue)?;
        Ok(Self(Arc::new(queue)))
    }

    /// Does nothing: the kernel deletes the filters of a closed descriptor, even if the socket is open elsewhere.
    pub(crate) const fn closes(&self, _fd: BorrowedFd<'_>) {}

    pub(crate) fn kevent(
        &self,
        changes: &[Entry],
        events: &mut [Entry],
        timeout: Option<Duration>,
    ) -> Result<usize, Errno> {
        self.0.kevent(changes, events, timeout.map(interval)).map_err(own)
    }
}

/// Converts an error of `nix`.
const fn own(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

/// The maximum timeout. FreeBSD refuses timeouts of years. One day is enough, since a wait may always end early.
const LONGEST: Duration = Duration::from_secs(86_400);

fn interval(timeout: Duration) -> libc::timespec {
    let timeout = timeout.min(LONGEST);
    libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(0),
        tv_nsec: timeout.subsec_nanos().into(),
    }
}
