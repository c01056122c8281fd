//! The memory of a poller's blocks: taken from the system as it is used, and given back after a burst.

use std::io;

use memmap2::{MmapMut, MmapOptions};

use crate::syscall;

/// Maps so many bytes, of which none costs anything before it is used. No swap space is reserved for them.
///
/// # Errors
///
/// When the system refuses to map so much.
pub(crate) fn map(bytes: usize) -> io::Result<MmapMut> {
    MmapOptions::new().len(bytes).no_reserve_swap().map_anon()
}

/// Tells the system that nothing is needed of what whole pages of `memory` hold (`madvise`, `MADV_DONTNEED` on Linux and
/// `MADV_FREE` elsewhere). They cost nothing until they are written to again; then they may hold zeros. A refusal
/// changes nothing.
///
/// `memory` is to be private and anonymous: what an allocator gives.
pub fn release(memory: &mut [u8]) {
    #[cfg(target_os = "linux")]
    const ADVICE: libc::c_int = libc::MADV_DONTNEED;
    #[cfg(not(target_os = "linux"))]
    const ADVICE: libc::c_int = libc::MADV_FREE;
    let page = page_size();
    let skipped = memory.as_ptr().addr().wrapping_neg() & (page - 1);
    let Some(pages) = memory.get_mut(skipped..) else { return };
    let length = pages.len() & !(page - 1);
    if length > 0 {
        // SAFETY: the pages lie within a slice that is borrowed mutably, so nobody else looks at them; bytes may
        // become zero, which is a value that any byte may have.
        let _ = unsafe { syscall!(madvise(pages.as_mut_ptr().cast(), length, ADVICE)) };
    }
}

/// Bytes of a page: a power of two.
fn page_size() -> usize {
    // SAFETY: `sysconf` takes a number only.
    let size = unsafe { syscall!(sysconf(libc::_SC_PAGESIZE)) };
    size.ok()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| size.is_power_of_two())
        .unwrap_or(1 << 16)
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
        // elsewhere the system takes them when it wants to
        if cfg!(target_os = "linux") {
            let zeros = memory.iter().position(|byte| *byte == 0);
            assert_eq!(zeros, Some(page));
            assert_eq!(memory.iter().filter(|byte| **byte == 0).count(), 3 * page);
        }
    }
}
