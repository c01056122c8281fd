//! Access to the registers of a device.

/// A block of `LENGTH` bytes of registers, each of 32 bits. `LENGTH` is a power of two.
pub(crate) struct Registers<const LENGTH: usize>(*mut u32);

impl<const LENGTH: usize> Registers<LENGTH> {
    /// Returns the block at an address.
    ///
    /// # Safety
    ///
    /// There must be a device with `LENGTH` bytes of registers, which nothing else accesses, and whose registers have
    /// no effect on the memory of the program.
    pub(crate) const unsafe fn at(address: usize) -> Self {
        const { assert!(LENGTH.is_power_of_two() && LENGTH >= 4) };
        Self(address as *mut u32)
    }

    /// Returns the address of a register. An offset that is too large wraps to one within the block.
    const fn register(&self, offset: usize) -> *mut u32 {
        self.0.wrapping_byte_add(offset & (LENGTH - 4))
    }

    pub(crate) fn read(&self, offset: usize) -> u32 {
        // SAFETY: the register is within the block, which belongs to `self`; see `at`.
        unsafe { self.register(offset).read_volatile() }
    }

    pub(crate) fn write(&self, offset: usize, value: u32) {
        // SAFETY: as for `read`; the device does not touch the memory of the program.
        unsafe { self.register(offset).write_volatile(value) };
    }
}
