//! Making a poller that waits return, from any thread.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod eventfd;
mod pipe;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use eventfd::EventFdWaker;
pub use pipe::PipeWaker;

/// Makes the wait of one poller return. The handle of the producers: cheap to clone, kept as long as anybody may wake.
///
/// 1. `wake` makes the current wait return, or the next one if the poller is not waiting. It never blocks.
/// 2. It cannot fail: "already woken" is success, and the descriptors behind it stay open as long as any clone lives
///    (a number closed too early and given out anew would be somebody else's connection).
/// 3. Wakes coalesce: many before one wait cost one return. They carry no data; the mailbox does.
/// 4. Everything that a producer wrote before `wake` is not ordered by it: the mailbox and the wake flag do that.
/// 5. A wake too many is harmless: the wait returns with zero events.
pub trait Waker: Clone + Send + Sync + 'static {
    /// Makes the poller's wait return.
    fn wake(&self);
}
