//! HTTP/1.1 as a handler over lightcone-core: no_std, no heap
#![no_std]
#![forbid(unsafe_code)]

mod date;
mod limits;
mod method;
mod parse;
mod status;
#[cfg(test)]
mod testing;

pub use date::{DATE_LENGTH, date};
pub use limits::Limits;
pub use method::Method;
pub use parse::framing::{Body, Framing};
pub use parse::head::{Fields, Head, Parse};
pub use parse::scan::parse;
pub use status::Status;
