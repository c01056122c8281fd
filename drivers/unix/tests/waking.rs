//! Wakers: they coalesce wake-ups, never block, and stay alive as long as any handle.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;

use lightcone_unix::waker::{PipeWaker, Waker};

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the list has one entry, which outlives the call.
    unsafe { libc::poll(&raw mut entry, 1, 0) == 1 }
}

fn wakes_coalesce<W: Waker + AsFd>(waker: &W, drain: fn(&W)) {
    assert!(!is_readable(waker.as_fd()));
    drain(waker);
    for _ in 0..100 {
        waker.wake();
    }
    assert!(is_readable(waker.as_fd()));
    drain(waker);
    assert!(!is_readable(waker.as_fd()));
    waker.wake();
    assert!(is_readable(waker.as_fd()));
}

fn many_threads_wake<W: Waker + AsFd>(waker: &W, drain: fn(&W)) {
    thread::scope(|scope| {
        for _ in 0..8 {
            let waker = waker.clone();
            scope.spawn(move || (0..1_000).for_each(|_| waker.wake()));
        }
    });
    assert!(is_readable(waker.as_fd()));
    drain(waker);
    assert!(!is_readable(waker.as_fd()), "one drain consumes all wake-ups");
}

/// Checks that waking does not block, even with more wake-ups than a pipe holds and no drain.
fn a_full_waker_takes_more<W: Waker + AsFd>(waker: &W, drain: fn(&W)) {
    (0..100_000).for_each(|_| waker.wake());
    assert!(is_readable(waker.as_fd()));
    // One drain is bounded and may not empty the pipe. Sixteen of them do.
    (0..16).for_each(|_| drain(waker));
    assert!(!is_readable(waker.as_fd()));
}

fn outlives_its_poller<W: Waker + AsFd>(waker: W) {
    let producer = waker.clone();
    let number = waker.as_fd().as_raw_fd();
    drop(waker);
    producer.wake();
    assert_eq!(producer.as_fd().as_raw_fd(), number);
    assert!(is_readable(producer.as_fd()));
}

#[test]
fn pipes() {
    wakes_coalesce(&PipeWaker::new().unwrap(), PipeWaker::drain);
    many_threads_wake(&PipeWaker::new().unwrap(), PipeWaker::drain);
    a_full_waker_takes_more(&PipeWaker::new().unwrap(), PipeWaker::drain);
    outlives_its_poller(PipeWaker::new().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn event_descriptors() {
    use lightcone_unix::waker::EventFdWaker;
    wakes_coalesce(&EventFdWaker::new().unwrap(), EventFdWaker::drain);
    many_threads_wake(&EventFdWaker::new().unwrap(), EventFdWaker::drain);
    a_full_waker_takes_more(&EventFdWaker::new().unwrap(), EventFdWaker::drain);
    outlives_its_poller(EventFdWaker::new().unwrap());
}
