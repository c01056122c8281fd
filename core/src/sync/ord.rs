//! Every memory ordering above `Relaxed`, by name, with what it pairs with.
//!
//! Accesses that are not named here are `Relaxed`: a read-modify-write of the same word decides, or nothing is
//! published. The names let the mutation tests weaken one ordering at a time.

use crate::sync::atomic::Ordering;

/// Producer, load of a slot's turn. Pairs with [`FREE`]: the receiver has moved the earlier value out. Pairs with
/// [`ENTER`] and [`PUBLISH`] as well: who finds the slot already taken for this lap finds the tail moved on, so
/// that `Full` is never said of a mailbox that has room for good.
pub(crate) const SEE: Ordering = Ordering::Acquire;

/// Producer, exchange `FREE` → `WRITING` of a slot's turn, after its claim of the tail. Pairs with [`SEE`].
pub(crate) const ENTER: Ordering = Ordering::Release;

/// Producer, store of `FULL` after the value was written. Pairs with [`TAKE`].
pub(crate) const PUBLISH: Ordering = Ordering::Release;

/// Receiver, exchange `FULL` → `READING`. Pairs with [`PUBLISH`]: the value is there.
pub(crate) const TAKE: Ordering = Ordering::Acquire;

/// Receiver, store of the next lap's `FREE` after the value was moved out. Pairs with [`SEE`].
pub(crate) const FREE: Ordering = Ordering::Release;

/// Closer, `fetch_or` of the closed bit. Pairs with [`FINISH`].
pub(crate) const CLOSE: Ordering = Ordering::Release;

/// Receiver, load of the tail. Pairs with [`CLOSE`]: who is told `Finished` sees all that came before `close`.
pub(crate) const FINISH: Ordering = Ordering::Acquire;

/// Producer, swap to `NOTIFIED`. Pairs with [`AWAKE`], through any number of swaps in between.
pub(crate) const NOTIFY: Ordering = Ordering::Release;

/// Poller, swap to `AWAKE`. Pairs with [`NOTIFY`]: everything pushed before the notices it wipes out can be popped.
pub(crate) const AWAKE: Ordering = Ordering::Acquire;

/// Poster of a gate, `fetch_or`. Pairs with [`LOOK`]: what was left before is there. It need not acquire, though it may
/// get the pass: it continues what [`LEAVE`] released, and whoever runs looks first.
pub(crate) const POST: Ordering = Ordering::Release;

/// Runner of a gate, swap before it looks. Pairs with [`POST`], and with the [`LEAVE`] of the runner before.
pub(crate) const LOOK: Ordering = Ordering::Acquire;

/// Runner of a gate, exchange to idle. Pairs with the next runner's [`LOOK`], by way of the post in between.
pub(crate) const LEAVE: Ordering = Ordering::Release;
