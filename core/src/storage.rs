//! Memory that the caller lends to a shard.

use crate::slot::Slot;
use core::fmt;
use core::mem::MaybeUninit;

/// The memory of one shard: slots for sockets and bytes for blocks. It may be static, on the stack
/// or on a heap; the shard touches no page of it before it needs it, so that a table of a million
/// slots costs what is used.
///
/// ```
/// use core::mem::MaybeUninit;
/// use lightcone_core::{Config, Instant, Shard, Storage};
///
/// const CONFIG: Config = Config { sockets: 4, ..Config::DEVICE };
/// let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
/// let mut memory = [0; CONFIG.memory()];
/// let storage = Storage { slots: &mut slots, memory: &mut memory };
/// let shard: Shard<'_, u32> = Shard::new(storage, &CONFIG, Instant::from_millis(0))?;
/// # Ok::<(), lightcone_core::ConfigError>(())
/// ```
pub struct Storage<'s, D> {
    /// At least [`Config::sockets`](crate::Config) of them.
    pub slots: &'s mut [MaybeUninit<Slot<D>>],
    /// At least [`Config::memory`](crate::Config::memory) bytes. What they hold is of no matter.
    pub memory: &'s mut [u8],
}

impl<D> fmt::Debug for Storage<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("slots", &self.slots.len())
            .field("memory", &self.memory.len())
            .finish()
    }
}

/// A table that grows into lent memory from the front and never shrinks.
pub(crate) struct Slots<'s, D> {
    memory: &'s mut [MaybeUninit<Slot<D>>],
    /// INVARIANT: `memory[..used]` is initialised. Kept by `push`, the only place that changes it.
    used: usize,
    /// How often a slot was looked at, for tests of what looks at few of them.
    #[cfg(test)]
    looks: core::cell::Cell<usize>,
}

#[expect(unsafe_code, reason = "lazily initialised lent memory; the invariant is one counter in this file")]
impl<'s, D> Slots<'s, D> {
    pub(crate) fn new(memory: &'s mut [MaybeUninit<Slot<D>>]) -> Self {
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

    pub(crate) fn push(&mut self, slot: Slot<D>) -> Result<(), Slot<D>> {
        let Some(place) = self.memory.get_mut(self.used) else { return Err(slot) };
        place.write(slot);
        self.used += 1;
        Ok(())
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Slot<D>> {
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        let slot = self.memory.get(index as usize).filter(|_| (index as usize) < self.used)?;
        // SAFETY: it lies in `memory[..used]`, which is initialised.
        Some(unsafe { slot.assume_init_ref() })
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Slot<D>> {
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        let slot = self.memory.get_mut(index as usize).filter(|_| (index as usize) < self.used)?;
        // SAFETY: it lies in `memory[..used]`, which is initialised.
        Some(unsafe { slot.assume_init_mut() })
    }
}

#[expect(unsafe_code, reason = "lazily initialised lent memory; the invariant is one counter in this file")]
impl<D> Drop for Slots<'_, D> {
    fn drop(&mut self) {
        let used = core::mem::take(&mut self.used);
        for slot in self.memory.iter_mut().take(used) {
            // SAFETY: `memory[..used]` is initialised, and `used` is 0 from now on.
            unsafe { slot.assume_init_drop() };
        }
    }
}

impl<D> fmt::Debug for Slots<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("used", &self.used).field("of", &self.memory.len()).finish()
    }
}
