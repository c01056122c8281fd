//! Tests of the example programs, each run as a user would run it.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a client for tests reads the clock itself")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests: a failure is a panic")]

mod chat;
mod command_line;
mod echo;
mod httpd;
mod kv;
mod program;
mod relay;
