//! How much of the stack was used.

use core::ptr::addr_of;

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    /// The beginning of static memory.
    static __sdata: u32;
    /// The end of static memory, where the stack must not reach.
    static _stack_end: u32;
    /// The end of memory, where the stack begins; it grows downwards.
    static _stack_start: u32;
}

/// The memory of the stack in bytes.
#[derive(Clone, Copy)]
pub struct StackUse {
    /// The maximum use since the start.
    pub used: usize,
    /// What there is.
    pub size: usize,
    /// The static memory, which lies below.
    pub below: usize,
}

/// Returns the maximum use of the stack since the start. The memory was painted then, and is searched for the first
/// word that has changed.
#[must_use]
pub fn stack_use() -> StackUse {
    let (end, start) = (addr_of!(_stack_end), addr_of!(_stack_start));
    let size = start.addr() - end.addr();
    let mut untouched = 0;
    while untouched < size {
        let word = end.wrapping_byte_add(untouched);
        // SAFETY: the word lies between the two symbols, where there is memory, aligned as they are. Others may write
        // it, which a volatile read allows.
        let word = unsafe { word.read_volatile() };
        if word != STACK_PAINT_VALUE {
            break;
        }
        untouched += size_of::<u32>();
    }
    StackUse { used: size - untouched, size, below: end.addr() - addr_of!(__sdata).addr() }
}
