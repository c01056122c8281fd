//! The memory orderings above `Relaxed`, by name, each with its counterpart.
//!
//! Accesses that are not named here are `Relaxed`: either a read-modify-write of the same word decides, or nothing is
//! published. The exception is `AtomicMin`, whose operations both acquire and release. The names let the mutation tests
//! weaken one ordering at a time.

use crate::sync::atomic::Ordering;

/// Producer, load of a slot's turn. Pairs with [`FREE`]: the receiver has moved the previous value out. Also pairs with
/// [`ENTER`] and [`PUBLISH`]: a producer that finds the slot already taken for this lap also sees the newer tail, so
/// that `Full` is never returned for a mailbox that had room all the time.
pub(crate) const SEE: Ordering = Ordering::Acquire;

/// Producer, exchange `FREE` → `WRITING` of a slot's turn, after its claim of the tail. Pairs with [`SEE`].
pub(crate) const ENTER: Ordering = Ordering::Release;

/// Producer, store of `FULL` after the write of the value. Pairs with [`TAKE`].
pub(crate) const PUBLISH: Ordering = Ordering::Release;

/// Receiver, exchange `FULL` → `READING`. Pairs with [`PUBLISH`]: the value is visible.
pub(crate) const TAKE: Ordering = Ordering::Acquire;

/// Receiver, store of the next lap's `FREE` after the value was moved out. Pairs with [`SEE`].
pub(crate) const FREE: Ordering = Ordering::Release;

/// Closer, `fetch_or` of the closed bit. Pairs with [`FINISH`].
pub(crate) const CLOSE: Ordering = Ordering::Release;

/// Receiver, load of the tail. Pairs with [`CLOSE`]: a receiver that returns `Finished` sees everything that came
/// before `close`.
pub(crate) const FINISH: Ordering = Ordering::Acquire;

/// Producer, swap to `NOTIFIED`. Pairs with [`AWAKE`], through any number of swaps in between.
pub(crate) const NOTIFY: Ordering = Ordering::Release;

/// Poller, swap to `AWAKE`. Pairs with [`NOTIFY`]: everything pushed before the notifications that it clears can be
/// popped.
pub(crate) const AWAKE: Ordering = Ordering::Acquire;

/// Poster of a gate, `fetch_or`. Pairs with [`LOOK`]: what was left before is visible. It need not acquire, although it
/// may return the permit: the permit continues what [`LEAVE`] released, and every runner looks first.
pub(crate) const POST: Ordering = Ordering::Release;

/// Runner of a gate, swap before it looks. Pairs with [`POST`], and with the [`LEAVE`] of the previous runner.
pub(crate) const LOOK: Ordering = Ordering::Acquire;

/// Runner of a gate, exchange to idle. Pairs with the next runner's [`LOOK`], through the post in between.
pub(crate) const LEAVE: Ordering = Ordering::Release;

/// Answering poller, `fetch_or` of its bit in the asker's set. Pairs with [`COLLECT`].
pub(crate) const INSERT: Ordering = Ordering::Release;

/// Asking poller, swap that removes the bits. Pairs with [`INSERT`]: the room in the mailbox is visible.
pub(crate) const COLLECT: Ordering = Ordering::Acquire;
