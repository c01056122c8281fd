//! Requests as bytes: pure functions from what has arrived to what it means.

pub(crate) mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod host;
pub(crate) mod scan;
pub(crate) mod words;

#[cfg(test)]
mod scan_tests;
