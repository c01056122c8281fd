//! A memcached server: the handler of its text protocol, and the table of its items.
//!
//! | file | what is there |
//! | --- | --- |
//! | `protocol` | commands, replies and numbers as text; neither I/O nor state |
//! | `table` | the table of one thread: expiry, versions, eviction |
//! | `shards` | a table that pollers share |
//! | `handler` | the handler: values in, values out, backpressure |

mod handler;
pub mod protocol;
pub mod shards;
mod sync;
pub mod table;

pub use handler::{Client, Connections, Kv, Settings};
