//! The baseline of `tests/tools/ratio.py`: the kernel's share of the cost of an epoll server.
//!
//! ```text
//! raw_epoll [--alone] [--listen 127.0.0.1:0] [--answer BYTES]
//! ```
//!
//! A response has 78 bytes, or the number given by `--answer`, because the kernel's cost depends on its size.
//!
//! One thread serves while the main thread waits for it, as in a server with a pool of them: where a process has more
//! than one thread, the kernel counts the uses of a descriptor in each system call, which costs one or two percent. With
//! `--alone`, the main thread serves, and there is no other.
//!
//! The server uses one buffer. Per event it makes one receive, and one send of as many copies of a prepared
//! response as there are ends of heads in the received bytes. It parses nothing, refuses nothing and has no timeouts,
//! and a head that is cut at an unlucky place is not answered: it is a measuring tool, not a server.
#![allow(clippy::print_stdout, reason = "the first line reports the address")]

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
