//! Parsing of requests: pure functions of the received bytes.

pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod host;
pub(crate) mod scan;
pub(crate) mod trailers;
pub(crate) mod words;

#[cfg(test)]
mod scan_tests;
