//! The baseline of `tests/tools/ratio.py`: what the kernel alone costs a server on epoll.
//!
//! ```text
//! raw_epoll [--listen 127.0.0.1:0] [--answer BYTES]
//! ```
//!
//! An answer has 78 bytes, or as many as are asked for: what the kernel costs depends on it.
//!
//! One thread, one buffer, and per event one receive and one send of as many copies of a ready-made response as
//! there are ends of heads in what was read. It parses nothing, refuses nothing and keeps no time, and a head that is
//! cut at an unlucky place goes unanswered: it is a measuring rod, not a server.
#![allow(clippy::print_stdout, reason = "its first line says where it listens")]

#[cfg(target_os = "linux")]
mod server;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("raw_epoll: needs Linux");
    std::process::exit(2);
}

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    server::main()
}
