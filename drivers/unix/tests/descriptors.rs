//! Behaviour without free descriptors. A single test in its own process, because the limit applies to all threads.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use std::fs::File;
use std::os::fd::AsFd;

use lightcone_contract::sockets::{accept, listen, soon, start_connect};
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::errno::Errno;
use lightcone_unix::limits::DescriptorLimit;
use lightcone_unix::listener::{AcceptResult, ListenOptions, ListenSocket};
use lightcone_unix::socket::{Received, receive};
use lightcone_unix::waker::PipeWaker;

fn set_limit(soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call only reads `limit`, which outlives it.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1
}

/// Opens descriptors until none is left, at most 64, the limit in this test.
fn all_that_are_left() -> Vec<File> {
    (0..64).map_while(|_| File::open("/dev/null").ok()).collect()
}

#[test]
fn out_of_descriptors_is_distinguished_and_ends() {
    set_limit(64, 128);
    the_soft_limit_is_raised_and_no_further();
    set_limit(64, 128);
    accepting_stops_and_goes_on();
    making_sockets_and_wakers_fails_with_the_reason();
}

fn the_soft_limit_is_raised_and_no_further() {
    assert_eq!(DescriptorLimit::read(), Ok(DescriptorLimit { soft: 64, hard: 128 }));
    assert_eq!(DescriptorLimit::require(64), Ok(DescriptorLimit { soft: 64, hard: 128 }));
    assert_eq!(DescriptorLimit::require(65), Ok(DescriptorLimit { soft: 128, hard: 128 }));
    let error = DescriptorLimit::require(129).unwrap_err();
    assert_eq!((error.wanted, error.limit.soft, error.limit.hard), (129, 128, 128));
}

fn accepting_stops_and_goes_on() {
    let listener = listen("127.0.0.1:0");
    let before = open_descriptors();
    let mut held = all_that_are_left();
    held.pop();
    let (client, _) = start_connect(listener.endpoint());
    let refused = soon("connection", || match listener.accept() {
        AcceptResult::WouldBlock => None,
        AcceptResult::OutOfDescriptors(errno) => Some(errno),
        fine_or_fatal @ (AcceptResult::Accepted(..) | AcceptResult::Retry(_) | AcceptResult::Failed(_)) => {
            panic!("{fine_or_fatal:?}")
        }
    });
    assert_eq!(refused, Errno(libc::EMFILE));
    assert!(
        matches!(listener.accept(), AcceptResult::OutOfDescriptors(_)),
        "the connection stays in the queue"
    );
    held.pop();
    let (server, _) = accept(&listener);
    assert_eq!(receive(client.as_fd(), &mut [0; 1]), Received::WouldBlock, "the connection is intact");
    drop((server, client, held));
    assert_eq!(open_descriptors(), before);
}

fn making_sockets_and_wakers_fails_with_the_reason() {
    let any: Endpoint = "127.0.0.1:0".parse().unwrap();
    let before = open_descriptors();
    let mut held = all_that_are_left();
    let error = ListenSocket::bind(&any, &ListenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no descriptor is left"), "{error}");
    held.pop();
    // A pipe needs two descriptors and only one is free. The failure must not leak that one.
    assert_eq!(PipeWaker::new().map(drop), Err(Errno(libc::EMFILE)));
    drop(held);
    assert_eq!(open_descriptors(), before);
}
