//! Rules 2 to 6: registration and interest.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use lightcone_unix::driver::{Driver, Interest, Readiness};
use lightcone_unix::socket::{self, Received, Sent};

use crate::Watched;
use crate::sockets::{Folder, fill, listen, next_received, pair};

const ALL: [Interest; 4] = [Interest::NONE, Interest::READ, Interest::WRITE, Interest::BOTH];

/// Returns the readiness that is reported for a socket that is ready in both directions.
fn expected(interest: Interest) -> Readiness {
    Readiness::when(interest.reads(), Readiness::READ) | Readiness::when(interest.writes(), Readiness::WRITE)
}

/// Rules 3 and 5: all sixteen changes of interest, for a socket that is ready in both directions.
pub fn each_transition_holds_from_the_next_wait<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    assert_eq!(socket::send(client.as_fd(), b"unread"), Sent::Bytes(6));
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::BOTH);
    watched.until(1, Readiness::BOTH);
    for old in ALL {
        for new in ALL {
            watched.set(&server, 1, old);
            let seen = watched.wait_ms(1);
            let all = if old.is_none() { vec![] } else { vec![(1, expected(old))] };
            assert_eq!(seen, all, "{old:?}");
            watched.set(&server, 1, new);
            let seen = watched.wait_ms(1);
            let all = if new.is_none() { vec![] } else { vec![(1, expected(new))] };
            assert_eq!(seen, all, "{old:?} to {new:?}");
        }
    }
}

/// Rule 4: without interest, bytes, the end and a reset are not reported, from the registration on or after a change.
pub fn no_interest_is_silent_and_does_not_spin<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    let (with_bytes, one) = pair(&listener);
    let (ended, two) = pair(&listener);
    let (reset, three) = pair(&listener);
    let (hung_up, four) = pair(&listener);
    watched.add(&one, 1, Interest::NONE);
    watched.add(&two, 2, Interest::READ);
    watched.add(&three, 3, Interest::WRITE);
    watched.add(&four, 4, Interest::BOTH);
    watched.until(4, Readiness::WRITE);
    watched.set(&two, 2, Interest::NONE);
    watched.set(&three, 3, Interest::NONE);
    watched.set(&four, 4, Interest::NONE);
    assert_eq!(socket::send(with_bytes.as_fd(), b"unread"), Sent::Bytes(6));
    drop(ended);
    socket::set_abort_on_close(reset.as_fd()).unwrap();
    drop(reset);
    drop(hung_up);
    socket::shutdown_write(four.as_fd()).unwrap();
    watched.expect_silence();
}

/// Rules 4 and 9: a reset while a socket is paused is reported after the pause.
pub fn a_reset_during_a_pause_is_reported_after_it<D: Driver>() {
    for interest in [Interest::READ, Interest::WRITE, Interest::BOTH] {
        let (client, server) = pair(&listen("127.0.0.1:0"));
        let mut watched = Watched::<D>::new();
        watched.add(&server, 1, interest);
        watched.set(&server, 1, Interest::NONE);
        socket::set_abort_on_close(client.as_fd()).unwrap();
        drop(client);
        watched.expect_silence();
        watched.set(&server, 1, interest);
        watched.until(1, expected(interest));
        assert!(matches!(next_received(&server), Received::Failed(_)));
    }
}

/// Rule 9: a socket that waits for room is not disturbed by the end of its peer's stream.
pub fn waiting_to_write_is_not_disturbed_by_the_peers_end<D: Driver>() {
    // a Unix socket stays full; over TCP, the kernel moves bytes for a moment longer
    let folder = Folder::new("waiting_to_write");
    let (client, server) = pair(&listen(&folder.endpoint("socket")));
    assert!(fill(&server) > 0);
    socket::shutdown_write(client.as_fd()).unwrap();
    assert_eq!(next_received(&server), Received::End);
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::WRITE);
    watched.expect_silence();
}

/// Rules 2, 6 and 12: a deregistered descriptor is silent and can be registered again with another key.
pub fn a_deregistered_descriptor_is_silent_and_can_come_back<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    assert_eq!(socket::send(client.as_fd(), b"unread"), Sent::Bytes(6));
    let mut watched = Watched::<D>::new();
    for (key, interest) in [(1, Interest::READ), (2, Interest::BOTH), (3, Interest::WRITE)] {
        watched.add(&server, key, interest);
        watched.until(key, expected(interest));
        watched.remove(&server, key);
        assert_eq!(watched.wait_ms(5), []);
    }
    watched.add(&server, 4, Interest::NONE);
    watched.remove(&server, 4);
    watched.add(&server, 5, Interest::READ);
    assert_eq!(watched.batch(), [(5, Readiness::READ)]);
}

/// Rule 6: the number of a forgotten descriptor can be reused right after the close, even with pending changes.
pub fn a_forgotten_descriptors_number_can_be_reused<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    for round in 0..8 {
        let (client, server) = pair(&listener);
        assert_eq!(socket::send(client.as_fd(), b"unread"), Sent::Bytes(6));
        let old_key = 100 + round;
        watched.add(&server, old_key, Interest::READ);
        if round % 2 == 0 {
            watched.until(old_key, Readiness::READ);
        }
        watched.set(&server, old_key, Interest::BOTH);
        watched.forget(server.as_fd(), old_key);
        drop((client, server));
        // the next pair gets the same two numbers, in either order
        let (client, server) = pair(&listener);
        watched.add(&client, round, Interest::READ);
        watched.expect_silence();
        assert_eq!(socket::send(server.as_fd(), b"x"), Sent::Bytes(1));
        assert_eq!(watched.batch(), [(round, Readiness::READ)]);
        watched.forget(client.as_fd(), round);
    }
}

/// Rule 5: of many changes between two waits, only the last one counts.
pub fn changes_that_cancel_out_leave_nothing<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    assert_eq!(socket::send(client.as_fd(), b"unread"), Sent::Bytes(6));
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::BOTH);
    for _ in 0..1_000 {
        watched.set(&server, 1, Interest::WRITE);
        watched.set(&server, 1, Interest::NONE);
        watched.set(&server, 1, Interest::BOTH);
        watched.set(&server, 1, Interest::READ);
    }
    assert_eq!(watched.batch(), [(1, Readiness::READ)]);
    watched.set(&server, 1, Interest::BOTH);
    watched.set(&server, 1, Interest::NONE);
    watched.expect_silence();
}

/// Rule 6: a driver borrows descriptors and never closes one. A driver that does will sooner or later close the
/// descriptor of another owner.
pub fn a_driver_closes_no_descriptor<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    for forgets in [false, true] {
        let (_client, server) = pair(&listener);
        let lent = renumbered(server);
        watched.add(&lent, 1, Interest::BOTH);
        watched.until(1, Readiness::WRITE);
        if forgets {
            watched.forget(lent.as_fd(), 1);
        } else {
            watched.remove(&lent, 1);
            assert_eq!(watched.wait_ms(1), []);
        }
        // ownership is released first: if the descriptor was closed already, its drop would be a second close
        let number = lent.into_raw_fd();
        // SAFETY: `F_GETFD` takes no argument, and fails if the number is not open.
        let there = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        assert!(there, "descriptor {number} was closed by the driver");
        // SAFETY: it is open, and its ownership was released above.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}

/// Rule 6: a forgotten socket is silent, even if a duplicate keeps it open, as in a forked child.
pub fn a_forgotten_socket_with_a_duplicate_is_silent<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    let (client, server) = pair(&listener);
    let duplicate = server.try_clone().unwrap();
    watched.add(&server, 1, Interest::BOTH);
    watched.until(1, Readiness::WRITE);
    watched.forget(server.as_fd(), 1);
    drop(server);
    assert_eq!(socket::send(client.as_fd(), b"unread"), Sent::Bytes(6));
    watched.expect_silence();
    drop(duplicate);
}

/// Moves a socket to a number that other tests rarely use.
fn renumbered(socket: OwnedFd) -> OwnedFd {
    // SAFETY: `F_DUPFD_CLOEXEC` takes a number.
    let fd = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 600) };
    assert!(fd >= 600);
    // SAFETY: the call succeeded and created this descriptor, which has no other owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Rules 2 and 12: events of a reused number have the new key, from the next batch on.
pub fn a_number_that_comes_back_has_its_new_key<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    for key in 1..50 {
        let (_client, server) = pair(&listener);
        let lent = renumbered(server);
        watched.add(&lent, key, Interest::WRITE);
        assert_eq!(watched.batch(), [(key, Readiness::WRITE)]);
        watched.forget(lent.as_fd(), key);
    }
    watched.expect_silence();
}
