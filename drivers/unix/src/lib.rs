//! What lightcone's drivers for POSIX systems share: socket calls, poller threads, the engine
//!
//! | module | what |
//! | --- | --- |
//! | [`endpoint`] | where to listen and connect, as people write it |
//! | [`listener`] | listening sockets and what accepting comes to |
//! | [`socket`] | each socket call once |
//! | [`address`] | the kernel's form of an address |
//! | [`driver`] | the contract of a readiness mechanism, with its rules |
//! | [`waker`] | making a poller that waits return |
//! | [`clock`], [`limits`] | time and descriptors |
//! | [`errno`] | the OS's errors and the one macro that makes system calls |

pub mod address;
pub mod clock;
pub mod driver;
pub mod endpoint;
pub mod errno;
pub mod limits;
pub mod listener;
pub mod socket;
pub mod waker;
