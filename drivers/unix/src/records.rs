//! What the engine reports to the `log` crate, if the feature `log` is on. Otherwise nothing of it is compiled.

use core::any::Any;

use crate::endpoint::Endpoint;
use crate::errno::Errno;

/// Passes a record to the program's logger: `record!(warn, "..", ..)`.
#[cfg(feature = "log")]
macro_rules! record {
    ($level:ident, $($text:tt)+) => {
        log::$level!(target: "lightcone", $($text)+)
    };
}

/// Does nothing, not even evaluate the arguments.
#[cfg(not(feature = "log"))]
macro_rules! record {
    ($level:ident, $($text:tt)+) => {
        if false {
            let _ = format_args!($($text)+);
        }
    };
}
pub(crate) use record;

/// The records of a listener's accepts. A series of failures is recorded once, since the poller repeats the accept every
/// 20 ms.
#[derive(Debug, Default)]
pub(crate) struct AcceptRecords {
    /// Whether the last accept failed. Not used without the feature.
    failing: bool,
}

impl AcceptRecords {
    /// Records the end of a series of failures.
    #[inline(always)]
    pub(crate) fn accepted(&mut self, listener: &Endpoint) {
        if cfg!(feature = "log") && core::mem::take(&mut self.failing) {
            record!(info, "accepting from {listener} again");
        }
    }

    /// Records that no descriptor or memory is available for a connection.
    #[cold]
    pub(crate) fn failed(&mut self, listener: &Endpoint, errno: Errno) {
        if self.begins() {
            record!(warn, "cannot accept from {listener} now, its connections wait: {errno}");
        }
    }

    /// Records that the listener itself cannot be used.
    #[cold]
    pub(crate) fn broken(&mut self, listener: &Endpoint, errno: Errno) {
        if self.begins() {
            record!(error, "cannot accept from {listener}, the listener is broken: {errno}");
        }
    }

    /// Returns whether this failure is the first of a series, and begins the series.
    const fn begins(&mut self) -> bool {
        cfg!(feature = "log") && !core::mem::replace(&mut self.failing, true)
    }
}

/// Returns the message of a panic.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
