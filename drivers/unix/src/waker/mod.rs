//! Wakers: interrupting a poller's wait from any thread.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod eventfd;
mod pipe;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use eventfd::EventFdWaker;
pub use pipe::PipeWaker;

/// A handle that makes the wait of one poller return. Cheap to clone; each producer of messages holds one.
///
/// 1. `wake` makes the current wait return, or the next one if the poller is not waiting. It never blocks.
/// 2. It cannot fail. A pending wake-up counts as success, and the waker's descriptors stay open while any clone exists
///    (otherwise their numbers could be reused, and a wake-up would write to another connection).
/// 3. Wake-ups coalesce: any number of them before a wait make it return once. They carry no data; the mailbox does.
/// 4. `wake` does not order the producer's earlier writes: the mailbox and the wake flag do.
/// 5. A superfluous wake-up is harmless: the wait returns with zero events.
pub trait Waker: Clone + Send + Sync + 'static {
    /// Makes the poller's wait return.
    fn wake(&self);
}
