//! A table of the requested interest in each descriptor, and of the filters that the kernel has for it.

use std::os::fd::RawFd;

use lightcone_unix::driver::Interest;
use lightcone_unix::errno::Errno;

use crate::filters;
use crate::sys::{Change, Entry, Filter};

/// All descriptors, indexed by their number, and lists of those to handle at the next wait.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Watch>,
    /// The descriptors whose interest has changed since the last wait, each once.
    ///
    /// INVARIANT: a descriptor is in it if and only if its `changed` is set.
    changed: Vec<RawFd>,
    /// The descriptors that the kernel refused to watch, to be reported. All of them are registered.
    lost: Vec<RawFd>,
}

/// The state of one descriptor.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// `None`: not registered.
    key: Option<u64>,
    /// The requested interest.
    wanted: Interest,
    /// The filters that the kernel has.
    ///
    /// INVARIANT: `NONE` once the descriptor is forgotten, as its filters are deleted then.
    made: Interest,
    /// Whether the descriptor is in the list of changes.
    changed: bool,
}

impl Table {
    /// Sets the requested interest. It is submitted with the next [`take_changes`](Self::take_changes).
    pub(crate) fn want(&mut self, fd: RawFd, key: u64, wanted: Interest) {
        let Ok(at) = usize::try_from(fd) else { return };
        if at >= self.entries.len() {
            self.entries.resize(at + 1, Watch::default());
        }
        let Some(watch) = self.entries.get_mut(at) else { return };
        watch.key = Some(key);
        watch.wanted = wanted;
        if !watch.changed && wanted != watch.made {
            watch.changed = true;
            self.changed.push(fd);
        }
    }

    /// Forgets a descriptor and returns the filters that the kernel has for it.
    pub(crate) fn forget(&mut self, fd: RawFd) -> Interest {
        let Some(watch) = self.get_mut(fd) else { return Interest::NONE };
        let made = watch.made;
        // If it is in the list of changes, it stays there. `take_changes` then finds no difference, unless the number
        // is registered again before the wait.
        *watch = Watch { changed: watch.changed, ..Watch::default() };
        self.lost.retain(|lost| *lost != fd);
        made
    }

    /// Returns the key of a descriptor; `None` if it is not registered.
    pub(crate) fn key(&self, fd: RawFd) -> Option<u64> {
        self.entries.get(usize::try_from(fd).ok()?)?.key
    }

    /// Adds the differences between the requested interest and the kernel's filters to `changes`, and assumes that they
    /// will succeed. [`failed`](Self::failed) corrects the table for those that do not.
    pub(crate) fn take_changes(&mut self, changes: &mut Vec<Entry>) {
        while let Some(fd) = self.changed.pop() {
            let Some(watch) = self.get_mut(fd) else { continue };
            let (wanted, made) = (watch.wanted, watch.made);
            (watch.made, watch.changed) = (wanted, false);
            changes.extend(filters(made.without(wanted)).map(|filter| Entry::delete(fd, filter)));
            changes.extend(filters(wanted.without(made)).map(|filter| Entry::add(fd, filter)));
        }
    }

    /// Handles a failed change. If a filter could not be added, the socket would never be reported as ready, so it is
    /// reported as lost. A failed deletion is harmless.
    pub(crate) fn failed(&mut self, fd: RawFd, filter: Option<Filter>, errno: Errno) {
        let interest = match filter {
            Some(Filter::Read) => Interest::READ,
            Some(Filter::Write) => Interest::WRITE,
            None => return,
        };
        let Some(watch) = self.get_mut(fd) else { return };
        // The filter does not exist or the descriptor is closed: the purpose of the deletion is achieved.
        let gone = matches!(errno.0, libc::ENOENT | libc::EBADF);
        let wanted = watch.wanted.with(interest) == watch.wanted;
        if gone && !wanted {
            return;
        }
        watch.made = watch.made.without(interest);
        // Both filters of a descriptor can fail, but it is reported only once.
        if wanted && watch.key.is_some() && !self.lost.contains(&fd) {
            self.lost.push(fd);
        }
    }

    /// Returns whether there are lost sockets to report.
    pub(crate) const fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Takes the next lost socket and returns its key. Sockets that have been forgotten since are not returned.
    pub(crate) fn take_lost(&mut self) -> Option<u64> {
        let fd = self.lost.pop()?;
        self.key(fd)
    }

    fn get_mut(&mut self, fd: RawFd) -> Option<&mut Watch> {
        self.entries.get_mut(usize::try_from(fd).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(table: &mut Table) -> Vec<String> {
        let mut entries = Vec::new();
        table.take_changes(&mut entries);
        let mut text: Vec<_> = entries.iter().map(|entry| format!("{entry:?}")).collect();
        text.sort();
        text
    }

    fn text(entries: &[Entry]) -> Vec<String> {
        let mut text: Vec<_> = entries.iter().map(|entry| format!("{entry:?}")).collect();
        text.sort();
        text
    }

    #[test]
    fn only_the_difference_is_submitted() {
        let mut table = Table::default();
        table.want(5, 1, Interest::READ);
        assert_eq!(changes(&mut table), text(&[Entry::add(5, Filter::Read)]));
        assert_eq!(changes(&mut table), text(&[]));
        table.want(5, 1, Interest::BOTH);
        assert_eq!(changes(&mut table), text(&[Entry::add(5, Filter::Write)]));
        table.want(5, 1, Interest::WRITE);
        assert_eq!(changes(&mut table), text(&[Entry::delete(5, Filter::Read)]));
        table.want(5, 1, Interest::READ);
        let both = [Entry::delete(5, Filter::Write), Entry::add(5, Filter::Read)];
        assert_eq!(changes(&mut table), text(&both));
    }

    #[test]
    fn changes_that_cancel_out_are_none() {
        let mut table = Table::default();
        table.want(5, 1, Interest::READ);
        changes(&mut table);
        table.want(5, 1, Interest::BOTH);
        table.want(5, 1, Interest::NONE);
        table.want(5, 1, Interest::READ);
        assert_eq!(changes(&mut table), text(&[]));
    }

    #[test]
    fn a_forgotten_number_starts_over() {
        let mut table = Table::default();
        table.want(5, 1, Interest::BOTH);
        changes(&mut table);
        table.want(5, 1, Interest::NONE);
        assert_eq!(table.forget(5), Interest::BOTH);
        assert_eq!((table.key(5), changes(&mut table)), (None, text(&[])));
        table.want(5, 2, Interest::WRITE);
        assert_eq!(table.forget(5), Interest::NONE);
        table.want(5, 3, Interest::READ);
        assert_eq!((table.key(5), changes(&mut table)), (Some(3), text(&[Entry::add(5, Filter::Read)])));
        assert_eq!(table.forget(99), Interest::NONE);
    }

    #[test]
    fn a_refused_addition_is_lost_once() {
        let mut table = Table::default();
        table.want(5, 1, Interest::BOTH);
        changes(&mut table);
        table.failed(5, Some(Filter::Read), Errno(libc::ENOMEM));
        table.failed(5, Some(Filter::Write), Errno(libc::ENOMEM));
        assert!(table.has_lost());
        assert_eq!((table.take_lost(), table.take_lost()), (Some(1), None));
    }

    #[test]
    fn a_refused_deletion_and_a_forgotten_socket_are_not_lost() {
        let mut table = Table::default();
        table.want(5, 1, Interest::WRITE);
        changes(&mut table);
        table.failed(5, Some(Filter::Read), Errno(libc::ENOENT));
        assert!(!table.has_lost());
        table.failed(5, Some(Filter::Write), Errno(libc::ENOMEM));
        table.forget(5);
        assert_eq!(table.take_lost(), None);
    }
}
