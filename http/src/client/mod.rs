//! An HTTP/1.1 client over the same core as the server: `no_std`, without I/O, without a heap.
//!
//! | To | Use |
//! | --- | --- |
//! | read a response from bytes | [`ResponseReader`] with [`ClientLimits`] |
//! | write the head of a request | [`ClientRequest`] with a [`Uri`] |

mod limits;
mod request;
mod response;
mod uri;

pub use limits::ClientLimits;
pub use request::{ClientRequest, InvalidRequest, RequestBody, RequestFields, RequestHead};
pub use response::{Delimiter, InvalidResponse, Piece, ResponseHead, ResponseReader};
pub use uri::{Uri, UriError};
