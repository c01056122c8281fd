//! A table in memory that the caller lends.

use core::fmt;
use core::mem::MaybeUninit;

/// A table that grows into lent memory from the front and never shrinks. Memory that was never used is not touched.
pub(crate) struct Table<'s, T> {
    memory: &'s mut [MaybeUninit<T>],
    /// INVARIANT: `used` is at most the length of `memory`, and `memory[..used]` is initialised. Only `push` increases
    /// it, and only `drop` resets it.
    used: usize,
    /// The number of accesses to entries, for tests that bound it.
    #[cfg(test)]
    looks: core::cell::Cell<usize>,
}

#[expect(unsafe_code, reason = "lazily initialised lent memory; the invariant is one counter in this file")]
impl<'s, T> Table<'s, T> {
    pub(crate) fn new(memory: &'s mut [MaybeUninit<T>]) -> Self {
        Self {
            memory,
            used: 0,
            #[cfg(test)]
            looks: core::cell::Cell::new(0),
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.looks.get()
    }

    pub(crate) fn push(&mut self, entry: T) -> Result<(), T> {
        let Some(place) = self.memory.get_mut(self.used) else { return Err(entry) };
        place.write(entry);
        self.used += 1;
        Ok(())
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        if index as usize >= self.used {
            return None;
        }
        // SAFETY: `index` is below `used`, which is at most the length of `memory`.
        let entry = unsafe { self.memory.get_unchecked(index as usize) };
        // SAFETY: the entry is in `memory[..used]`, which is initialised.
        Some(unsafe { entry.assume_init_ref() })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        if index as usize >= self.used {
            return None;
        }
        // SAFETY: `index` is below `used`, which is at most the length of `memory`.
        let entry = unsafe { self.memory.get_unchecked_mut(index as usize) };
        // SAFETY: the entry is in `memory[..used]`, which is initialised.
        Some(unsafe { entry.assume_init_mut() })
    }
}

#[expect(unsafe_code, reason = "lazily initialised lent memory; the invariant is one counter in this file")]
impl<T> Drop for Table<'_, T> {
    fn drop(&mut self) {
        let used = core::mem::take(&mut self.used);
        for entry in self.memory.iter_mut().take(used) {
            // SAFETY: `memory[..used]` is initialised, and `used` is 0 from now on.
            unsafe { entry.assume_init_drop() };
        }
    }
}

impl<T> fmt::Debug for Table<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("used", &self.used).field("of", &self.memory.len()).finish()
    }
}
