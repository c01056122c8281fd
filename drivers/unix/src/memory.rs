//! The memory of a poller's blocks: committed as it is used, and released to the system after a burst.

use std::io;

use memmap2::{MmapMut, MmapOptions};
use nix::unistd::{SysconfVar, sysconf};

use crate::syscall;

/// Maps anonymous memory. Pages are only committed when they are first used, and no swap space is reserved.
///
/// # Errors
///
/// If the system refuses the mapping.
pub(crate) fn map(bytes: usize) -> io::Result<MmapMut> {
    MmapOptions::new().len(bytes).no_reserve_swap().map_anon()
}

/// Releases the whole pages of `memory` to the system (`madvise`, with `MADV_DONTNEED` on Linux and `MADV_FREE`
/// elsewhere). The memory stays valid, but the contents of those pages may change to zeros. Pages are committed again
/// when they are next used. Errors are ignored: the pages then stay committed.
///
/// `memory` must be private and anonymous, as memory from an allocator is.
pub fn release(memory: &mut [u8]) {
    #[cfg(target_os = "linux")]
    const ADVICE: libc::c_int = libc::MADV_DONTNEED;
    #[cfg(not(target_os = "linux"))]
    const ADVICE: libc::c_int = libc::MADV_FREE;
    let page = page_size();
    // Only whole pages: the first and the last one may be shared with other data.
    let skipped = memory.as_ptr().addr().wrapping_neg() & (page - 1);
    let Some(pages) = memory.get_mut(skipped..) else { return };
    let length = pages.len() & !(page - 1);
    if length > 0 {
        // SAFETY: the pages lie within a mutably borrowed slice, so there are no other references to them. Their bytes
        // may become zero, which is a valid value.
        let _ = unsafe { syscall!(madvise(pages.as_mut_ptr().cast(), length, ADVICE)) };
    }
}

/// Returns the page size in bytes, a power of two.
fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).filter(|size| size.is_power_of_two()).unwrap_or(1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_are_released_and_nothing_else() {
        let page = page_size();
        let mut memory = map(8 * page).unwrap();
        memory.fill(7);
        for (from, to) in [(1, page), (page - 1, page), (page + 1, page + 1), (0, 0)] {
            release(memory.get_mut(from..to).unwrap());
        }
        assert!(memory.iter().all(|byte| *byte == 7), "there is no whole page in any of these");
        release(memory.get_mut(page - 1..4 * page + 1).unwrap());
        // Other systems take the pages only when they need memory.
        if cfg!(target_os = "linux") {
            let zeros = memory.iter().position(|byte| *byte == 0);
            assert_eq!(zeros, Some(page));
            assert_eq!(memory.iter().filter(|byte| **byte == 0).count(), 3 * page);
        }
    }
}
