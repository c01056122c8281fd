//! An HTTP/1.1 client over the same core as the server: `no_std`, without I/O, without a heap.
//!
//! | To | Use |
//! | --- | --- |
//! | read a response from bytes | [`ResponseReader`] with [`ClientLimits`] |

mod limits;
mod response;

pub use limits::ClientLimits;
pub use response::{Delimiter, InvalidResponse, Piece, ResponseHead, ResponseReader};
