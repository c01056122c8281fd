//! Descriptors beyond the limit of `select`. In its own process, because the test raises the descriptor limit.
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use lightcone_contract::sockets::{listen, pair};
use lightcone_select::Select;
use lightcone_unix::driver::{Driver, DriverError, Interest};
use lightcone_unix::limits::DescriptorLimit;

/// Returns a duplicate of the socket whose number is at least `least`.
fn raised(socket: &OwnedFd, least: i32) -> OwnedFd {
    // SAFETY: `F_DUPFD_CLOEXEC` only takes a number.
    let fd = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    assert!(fd >= least);
    // SAFETY: the call succeeded and created the descriptor, which has no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn descriptors_beyond_the_sets_are_refused_by_name() {
    let limit = Select::DESCRIPTORS_MAX.unwrap();
    if let Err(error) = DescriptorLimit::require(u64::try_from(limit).unwrap() + 16) {
        return println!("skipped: {error}");
    }
    let (client, _server) = pair(&listen("127.0.0.1:0"));
    let mut select = Select::new(8).unwrap();

    let last = raised(&client, limit - 1);
    assert_eq!(last.as_raw_fd(), limit - 1);
    select.register(last.as_fd(), 1, Interest::BOTH).unwrap();
    select.deregister(last.as_fd(), 1, Interest::BOTH);

    let beyond = raised(&client, limit);
    let error = select.register(beyond.as_fd(), 1, Interest::NONE).unwrap_err();
    assert_eq!(error, DriverError::DescriptorTooHigh { driver: "select", fd: beyond.as_raw_fd(), limit });
    assert_eq!(
        error.to_string(),
        format!("select supports only descriptors below {limit}, this one is {}", beyond.as_raw_fd())
    );
}
