//! Tests of the driver over the emulated kqueue: the contract, and behaviour that is specific to kqueue.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "as in every test: a failure is a panic")]

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lightcone_contract::hooked::{Hook, Hooked};
use lightcone_contract::sockets::{listen, pair, receive_exactly, soon};
use lightcone_unix::driver::{Driver, DriverError, Event, Interest, Readiness};
use lightcone_unix::errno::Errno;
use lightcone_unix::socket::{self, Sent};
use lightcone_unix::waker::Waker;

use crate::Kqueue;
use crate::sys::emulated::Faults;
use crate::sys::{Change, Entry, Filter, Queue, QueueWaker};

mod contract {
    lightcone_contract::tests!(crate::Kqueue);
}

/// A driver without `EVFILT_USER`, which is woken by a pipe.
#[derive(Debug, Default)]
struct Pipe;

impl Hook<Kqueue> for Pipe {
    fn driver(events_max: usize) -> Result<Kqueue, DriverError> {
        let queue = Queue::open().unwrap();
        let waker = QueueWaker::with_pipe(&queue)?;
        Ok(Kqueue::over(queue, waker, events_max))
    }
}

type WithPipe = Hooked<Kqueue, Pipe>;

/// A driver with faults: every fifth wait is interrupted, and every third one repeats the events of the previous wait,
/// even for sockets that have been closed since.
#[derive(Debug, Default)]
struct Roughly;

impl Hook<Kqueue> for Roughly {
    fn driver(events_max: usize) -> Result<Kqueue, DriverError> {
        let queue = Queue::open().unwrap();
        queue.set_faults(Faults { rough: true, ..Faults::default() });
        let waker = QueueWaker::new(&queue)?;
        Ok(Kqueue::over(queue, waker, events_max))
    }
}

type Rough = Hooked<Kqueue, Roughly>;

mod with_pipe {
    use super::WithPipe;

    mod contract {
        lightcone_contract::tests!(crate::tests::WithPipe);
    }

    lightcone_conformance::tests! { WithPipe: messages:
        messages_keep_their_order
        many_threads_wake_one_poller
        two_pollers_play_ball
        a_broadcast_reaches_thousands
        a_stopped_engine_is_gone
        many_threads_close_at_random
    }
    lightcone_conformance::tests! { WithPipe: process alone:
        every_descriptor_is_closed_on_exec
        no_descriptor_is_left_open
        an_idle_engine_makes_no_wake_ups
    }
}

mod rough {
    use super::Rough;

    lightcone_conformance::tests! { Rough: transfer:
        every_size_comes_back
        every_size_comes_back_over_unix
        a_stalled_reader_gets_everything
        pause_stops_reading_and_resume_goes_on
        both_directions_flow_at_once
        many_small_sends_arrive_in_order
    }
    lightcone_conformance::tests! { Rough: ending:
        bytes_and_the_end_at_once
        both_sides_finish
        a_reset_of_an_idle_socket
        a_reset_in_the_middle_of_a_flush
        a_handle_closes_and_aborts
        in_receive
        in_writable
        in_peer_closed
    }
    lightcone_conformance::tests! { Rough: connecting:
        ipv4_opens
        a_connect_times_out
        a_connect_can_be_cancelled
        connects_beyond_the_sockets_are_refused
    }
    lightcone_conformance::tests! { Rough: messages:
        many_threads_wake_one_poller
        a_stale_token_never_reaches_the_successor
        a_descriptors_number_is_used_again_at_once
        many_threads_close_at_random
    }
    lightcone_conformance::tests! { Rough: stopping:
        stopping_in_the_middle_of_everything
    }
}

fn driver() -> Kqueue {
    Kqueue::new(64).unwrap()
}

fn wait(driver: &mut Kqueue) -> Vec<Event> {
    let mut events = [Event::default(); 64];
    let count = driver.wait(Some(Duration::from_millis(1)), &mut events).unwrap();
    events[..count].to_vec()
}

/// A socket whose peer has sent a byte.
fn readable() -> (OwnedFd, OwnedFd) {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    assert_eq!(socket::send(client.as_fd(), b"x"), Sent::Bytes(1));
    (client, server)
}

#[test]
fn an_interrupted_wait_has_made_its_changes() {
    let (_client, server) = readable();
    let mut driver = driver();
    driver.queue.set_faults(Faults { interruptions: 2, ..Faults::default() });
    driver.register(server.as_fd(), 1, Interest::READ).unwrap();
    assert_eq!(wait(&mut driver), [], "the second attempt is interrupted as well");
    // The emulation panics if a filter is added twice.
    soon("event", || (wait(&mut driver) == [Event { key: 1, readiness: Readiness::READ }]).then_some(()));
}

#[test]
fn an_interrupted_wait_looks_again() {
    let (_client, server) = readable();
    let mut driver = driver();
    driver.queue.set_faults(Faults { interruptions: 1, ..Faults::default() });
    driver.register(server.as_fd(), 1, Interest::READ).unwrap();
    assert_eq!(wait(&mut driver), [Event { key: 1, readiness: Readiness::READ }]);
}

#[test]
fn a_socket_that_is_refused_is_reported_lost_once() {
    let (_client, server) = readable();
    let mut driver = driver();
    driver.queue.set_faults(Faults { refused_additions: 2, ..Faults::default() });
    driver.register(server.as_fd(), 7, Interest::BOTH).unwrap();
    let lost = Event { key: 7, readiness: Readiness::BOTH | Readiness::LOST };
    assert_eq!(wait(&mut driver), [lost]);
    assert_eq!(wait(&mut driver), []);
    driver.forget(server.as_fd(), 7, Interest::BOTH);
    driver.register(server.as_fd(), 8, Interest::READ).unwrap();
    assert_eq!(wait(&mut driver), [Event { key: 8, readiness: Readiness::READ }]);
}

#[test]
fn lost_sockets_that_do_not_fit_come_with_the_next_wait() {
    let sockets = [readable(), readable(), readable()];
    let mut driver = driver();
    driver.queue.set_faults(Faults { refused_additions: 3, ..Faults::default() });
    for (key, (_, server)) in (0..).zip(&sockets) {
        driver.register(server.as_fd(), key, Interest::READ).unwrap();
    }
    let mut keys = Vec::new();
    for _ in 0..3 {
        let mut events = [Event::default(); 1];
        assert_eq!(driver.wait(None, &mut events), Ok(1));
        assert!(events[0].readiness.contains(Readiness::LOST));
        keys.push(events[0].key);
    }
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2]);
}

#[test]
fn deleting_a_missing_filter_is_no_loss() {
    let (_client, server) = readable();
    let mut driver = driver();
    driver.register(server.as_fd(), 1, Interest::BOTH).unwrap();
    assert_eq!(wait(&mut driver).len(), 2);
    driver.queue.set_faults(Faults { refused_deletions: 1, ..Faults::default() });
    driver.modify(server.as_fd(), 1, Interest::BOTH, Interest::READ).unwrap();
    let events = wait(&mut driver);
    assert!(events.iter().all(|event| !event.readiness.contains(Readiness::LOST)), "{events:?}");
}

#[test]
fn the_end_comes_with_the_bytes_before_it() {
    let (client, server) = readable();
    socket::shutdown_write(client.as_fd()).unwrap();
    let mut driver = driver();
    driver.register(server.as_fd(), 1, Interest::READ).unwrap();
    let expected = Event { key: 1, readiness: Readiness::READ | Readiness::ENDED };
    soon("end", || (wait(&mut driver) == [expected]).then_some(()));
    assert_eq!(receive_exactly(&server, 1), b"x");
}

/// A kernel may report an event after the socket has been closed. The driver drops it.
#[test]
fn an_event_that_comes_after_the_close_is_dropped() {
    let (_client, server) = readable();
    let mut driver = driver();
    driver.register(server.as_fd(), 1, Interest::READ).unwrap();
    assert_eq!(wait(&mut driver).len(), 1);
    driver.forget(server.as_fd(), 1, Interest::READ);
    drop(server);
    driver.queue.set_faults(Faults { repetitions: 1, ..Faults::default() });
    assert_eq!(wait(&mut driver), []);
}

/// The error of a reset is reported with the readiness of each filter.
#[test]
fn a_reset_reports_its_error_in_both_directions() {
    let (client, server) = readable();
    let mut driver = driver();
    driver.register(server.as_fd(), 1, Interest::BOTH).unwrap();
    socket::set_abort_on_close(client.as_fd()).unwrap();
    drop(client);
    for direction in [Readiness::READ, Readiness::WRITE] {
        let broken = direction | Readiness::ENDED | Readiness::ERROR;
        soon("error", || wait(&mut driver).iter().any(|it| it.readiness.contains(broken)).then_some(()));
    }
}

#[test]
fn a_trigger_without_the_filter_is_an_error() {
    let queue = Queue::open().unwrap();
    let trigger = || queue.kevent(&[Entry::trigger_user()], &mut [], None);
    assert_eq!(trigger(), Err(Errno(libc::ENOENT)));
    assert_eq!(queue.kevent(&[Entry::add_user()], &mut [], None), Ok(0));
    assert_eq!(trigger(), Ok(0));
    let mut events = [Entry::empty(); 4];
    assert_eq!(queue.kevent(&[], &mut events, Some(Duration::ZERO)), Ok(1));
    assert_eq!(events[0].direction(), None);
    assert_eq!(queue.kevent(&[], &mut events, Some(Duration::ZERO)), Ok(0), "EV_CLEAR");
}

#[test]
fn changes_cost_no_call_of_their_own() {
    let (_client, server) = readable();
    let mut driver = driver();
    let before = driver.queue.calls();
    driver.register(server.as_fd(), 1, Interest::READ).unwrap();
    driver.modify(server.as_fd(), 1, Interest::READ, Interest::BOTH).unwrap();
    assert_eq!(driver.queue.calls(), before);
    assert_eq!(wait(&mut driver).len(), 2);
    assert_eq!(driver.queue.calls(), before + 1);
    driver.forget(server.as_fd(), 1, Interest::BOTH);
    assert_eq!(driver.queue.calls(), before + 1);
    drop(server);
    assert_eq!(wait(&mut driver), []);
}

#[test]
fn more_changes_than_events_fit_are_all_made() {
    let sockets: Vec<_> = (0..10).map(|_| readable()).collect();
    let mut driver = driver();
    for (key, (_, server)) in (0..).zip(&sockets) {
        driver.register(server.as_fd(), key, Interest::READ).unwrap();
    }
    // A wake-up that an early call consumes must still end the wait.
    driver.waker().wake();
    let mut events = [Event::default(); 2];
    let count = driver.wait(None, &mut events).unwrap();
    assert!(count <= 2);
    assert_eq!(wait(&mut driver).len(), 10);
}

#[test]
fn a_wake_during_early_changes_ends_the_wait() {
    let sockets: Vec<_> = (0..10).map(|_| pair(&listen("127.0.0.1:0"))).collect();
    let mut driver = driver();
    for (key, (_, server)) in (0..).zip(&sockets) {
        driver.register(server.as_fd(), key, Interest::READ).unwrap();
    }
    driver.waker().wake();
    assert_eq!(driver.wait(None, &mut [Event::default(); 2]), Ok(0));
}

#[test]
fn the_emulation_keeps_to_the_manual() {
    let (_client, server) = readable();
    let fd = server.as_raw_fd();
    let queue = Queue::open().unwrap();
    let mut events = [Entry::empty(); 4];
    let zero = Some(Duration::ZERO);
    // Deleting a filter that does not exist returns an entry with the error if there is room, or else fails the call.
    let delete = Entry::delete(fd, Filter::Read);
    let add = Entry::add(fd, Filter::Read);
    assert_eq!(queue.kevent(&[delete, add], &mut events, zero), Ok(1));
    assert_eq!((events[0].error(), events[0].fd()), (Some(Errno(libc::ENOENT)), fd));
    assert_eq!(queue.kevent(&[delete], &mut [], zero), Ok(0), "the addition after the error was made");
    assert_eq!(queue.kevent(&[delete, add], &mut [], zero), Err(Errno(libc::ENOENT)));
    assert_eq!(
        queue.kevent(&[delete], &mut [], zero),
        Err(Errno(libc::ENOENT)),
        "nothing was added after the error"
    );
    // Each filter is a separate event.
    let both = [add, Entry::add(fd, Filter::Write)];
    assert_eq!(queue.kevent(&both, &mut events, zero), Ok(2));
    // Closing a descriptor deletes its filters.
    drop(server);
    assert_eq!(queue.kevent(&[], &mut events, zero), Ok(0));
    assert_eq!(queue.kevent(&[add], &mut events, zero), Ok(1));
    assert_eq!(events[0].error(), Some(Errno(libc::EBADF)));
}

#[test]
#[should_panic(expected = "already exists")]
fn the_emulation_finds_an_addition_too_many() {
    let (_client, server) = readable();
    let add = Entry::add(server.as_raw_fd(), Filter::Read);
    let _ = Queue::open().unwrap().kevent(&[add, add], &mut [], Some(Duration::ZERO));
}
