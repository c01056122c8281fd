//! Types that threads share: the mailbox, the wake flag, the gate, the load counters and the counters of statistics.
//!
//! Only the files of this module name an atomic or an `UnsafeCell`. They name them through the two modules below, which
//! model checking (`cfg(loom)`) replaces with instrumented versions. The files refer to each other as `crate::sync::…`
//! and to nothing else of the crate, so that the models compile exactly the shipped sources in another crate.
//!
//! | what | accessed by | when |
//! | --- | --- | --- |
//! | the value in a [`MailboxSlot`] | one producer | between its exchange `FREE` → `WRITING` and its store of `FULL` |
//! | the value in a [`MailboxSlot`] | the receiver | between its exchange `FULL` → `READING` and its store of `FREE` |
//! | a mailbox's tail | producers and closers by read-modify-write, any thread by load | always |
//! | a mailbox's head | its [`Receiver`] | always; no other thread reads it |
//! | a [`WakeFlag`] | producers by `notify`, its poller by the other methods | always, by read-modify-write |
//! | a [`Gate`] | posters by `post`, the holder of its [`GatePermit`] by the other methods | always, by read-modify-write |
//! | a [`Counter`] | its one writer by load and store, any thread by load | always; nothing is published through it |
//! | a [`PeerPlace`] | any thread | always, by read-modify-write |
//! | an [`AtomicMin`] | any thread | always, by read-modify-write |
//! | an [`AtomicSet`] | any thread by `insert`, one by `take` | always, by read-modify-write |
//! | a [`Load`] | any thread | always; a hint, nothing is published through it |
//!
//! A target without compare-and-swap (Cortex-M0, for instance) has only [`Counter`]. A single poller needs no more.

/// Compiles items only for targets with compare-and-swap.
macro_rules! with_exchange {
    ($($item:item)*) => {
        $(#[cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))] $item)*
    };
}

mod counter;
pub use counter::Counter;

with_exchange! {
    mod atomic_set;
    mod gate;
    mod load;
    mod mailbox;
    mod min;
    mod ord;
    mod cache_padded;
    mod peer_limits;
    mod slot;
    mod wake;

    pub use atomic_set::AtomicSet;
    pub use gate::{Gate, GatePermit};
    pub use load::{Load, Reservation};
    #[cfg(not(loom))]
    pub use mailbox::StaticMailbox;
    pub use mailbox::{Mailbox, TryRecv, PushError, Receiver, SlotsError};
    pub use min::AtomicMin;
    pub use peer_limits::{PeerLimits, PeerPermit, PeerPlace};
    pub use cache_padded::CachePadded;
    pub use slot::MailboxSlot;
    pub use wake::WakeFlag;
}

/// Mixes a number so that every input bit affects every output bit (the finalizer of splitmix64).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The atomics of the machine, or those of loom.
pub(crate) mod atomic {
    #[cfg(not(loom))]
    use core::sync::atomic;
    #[cfg(loom)]
    use loom::sync::atomic;

    pub(crate) use atomic::{AtomicUsize, Ordering};
    with_exchange! {
        pub(crate) use atomic::{AtomicBool, AtomicU32};
    }
}

/// The cell whose accesses loom checks for races.
#[cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))]
pub(crate) mod cell {
    #[cfg(loom)]
    pub(crate) use loom::cell::UnsafeCell;

    /// A [`core::cell::UnsafeCell`] that is accessed only through a closure, like loom's.
    #[cfg(not(loom))]
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    #[cfg(not(loom))]
    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        /// Calls `access` with the address of the value. `access` must make sure that its reads and writes are sound.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

/// Makes a constructor `const`, except under loom, whose atomics have no `const` constructors.
macro_rules! const_unless_loom {
    ($(#[$attribute:meta])* $visibility:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])*
        $visibility const fn $($rest)*
        #[cfg(loom)]
        $(#[$attribute])*
        $visibility fn $($rest)*
    };
}
pub(crate) use const_unless_loom;
