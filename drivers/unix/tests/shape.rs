//! Compile-time checks of which types of an engine can be shared between threads.

use core::cell::Cell;

use lightcone_unix::{Builder, Engine, Error, Handle, Listener, PollerContext, Report};

/// A driver that is neither `Clone` nor `Sync`.
struct NotClone(#[expect(dead_code, reason = "only its type is looked at")] Cell<u8>);

fn is_shared<T: Send + Sync>() {}
fn is_cloned_and_shared<T: Clone + Send + Sync>() {}

#[test]
fn handles_are_cloned_and_shared_whatever_the_messages() {
    // `Cell` is not `Sync`. That is not required: a message is moved to another thread and never shared.
    is_cloned_and_shared::<Handle<Cell<u8>>>();
    is_cloned_and_shared::<Handle<u64>>();
    is_shared::<Engine<Cell<u8>>>();
    is_shared::<Listener<Cell<u8>>>();
    is_shared::<PollerContext<Cell<u8>>>();
    is_cloned_and_shared::<Report>();
    is_shared::<Error>();
    // A builder has no driver yet, so this holds for every driver, which need not be `Clone` either.
    is_cloned_and_shared::<Builder<NotClone>>();
}
