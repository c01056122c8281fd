//! What of an engine may be shared between threads: checked when this compiles.

use core::cell::Cell;

use lightcone_unix::{Engine, Handle, Listener, PollerContext, Report};

fn is_shared<T: Send + Sync>() {}
fn is_cloned_and_shared<T: Clone + Send + Sync>() {}

#[test]
fn handles_are_cloned_and_shared_whatever_the_messages() {
    // a message crosses threads and is never looked at by two
    is_cloned_and_shared::<Handle<Cell<u8>>>();
    is_cloned_and_shared::<Handle<u64>>();
    is_shared::<Engine<Cell<u8>>>();
    is_shared::<Listener<Cell<u8>>>();
    is_shared::<PollerContext<Cell<u8>>>();
    is_cloned_and_shared::<Report>();
}
