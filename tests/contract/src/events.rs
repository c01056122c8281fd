//! Rules 1 and 7 to 13: the events that are reported.

use std::os::fd::AsFd;

use lightcone_unix::driver::{Driver, Event, Interest, KEY_RESERVED, Readiness};
use lightcone_unix::errno::Errno;
use lightcone_unix::listener::AcceptResult;
use lightcone_unix::socket::{self, Connecting, Received, Sent};

use crate::Watched;
use crate::sockets::{accept, listen, next_received, pair, receive_exactly, start_connect};

/// Rules 15 and 19: a new driver has no events; the waker is not reported.
pub fn a_new_driver_has_no_events<D: Driver>() {
    assert!(!D::NAME.is_empty());
    Watched::<D>::new().expect_silence();
}

/// Rule 1: events return the key with all its bits.
pub fn keys_come_back_with_all_their_bits<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    let keys = [0, 1, u64::from(u32::MAX), 1 << 32, 1 << 63, KEY_RESERVED - 1];
    let pairs: Vec<_> = keys.iter().map(|_| pair(&listener)).collect();
    for (key, (_, server)) in keys.iter().zip(&pairs) {
        watched.add(server, *key, Interest::WRITE);
    }
    let expected: Vec<_> = keys.iter().map(|key| (*key, Readiness::WRITE)).collect();
    assert_eq!(watched.batch(), expected);
}

/// Rule 7: a socket is reported by each wait while it is ready.
pub fn readiness_is_level_triggered<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::READ);
    watched.expect_silence();
    assert_eq!(socket::send(client.as_fd(), b"two"), Sent::Bytes(3));
    watched.until(1, Readiness::READ);
    for _ in 0..3 {
        assert_eq!(watched.wait_ms(1), [(1, Readiness::READ)]);
    }
    assert_eq!(receive_exactly(&server, 2), b"tw");
    assert_eq!(watched.wait_ms(1), [(1, Readiness::READ)], "one byte is still unread");
    assert_eq!(receive_exactly(&server, 1), b"o");
    watched.expect_silence();
}

/// Rules 7 and 8: readiness that another call has used up is not reported; a call before the wait returns "would
/// block".
pub fn readiness_that_another_call_has_used_up_is_not_reported<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::READ);
    for _ in 0..20 {
        assert_eq!(socket::send(client.as_fd(), b"x"), Sent::Bytes(1));
        watched.until(1, Readiness::READ);
        assert_eq!(receive_exactly(&server, 1), b"x");
        assert_eq!(socket::receive(server.as_fd(), &mut [0; 1]), Received::WouldBlock);
        assert_eq!(watched.wait_ms(1), []);
    }
}

/// Rules 7 and 11: readiness is reported in both directions.
pub fn both_directions_are_reported<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::BOTH);
    assert_eq!(watched.batch(), [(1, Readiness::WRITE)]);
    assert_eq!(socket::send(client.as_fd(), b"x"), Sent::Bytes(1));
    watched.until(1, Readiness::BOTH);
    assert_eq!(watched.batch(), [(1, Readiness::BOTH)]);
}

/// Rules 7 to 9: the end of the stream is readable, after the last bytes.
pub fn the_end_is_readable<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    let mut watched = Watched::<D>::new();
    watched.add(&server, 1, Interest::READ);
    assert_eq!(socket::send(client.as_fd(), b"last"), Sent::Bytes(4));
    socket::shutdown_write(client.as_fd()).unwrap();
    watched.until(1, Readiness::READ);
    assert_eq!(receive_exactly(&server, 4), b"last");
    watched.until(1, Readiness::READ);
    assert_eq!(next_received(&server), Received::End);
    watched.until(1, Readiness::READ);
}

/// Rule 9: a reset is reported in each watched direction.
pub fn a_reset_is_reported_in_each_watched_direction<D: Driver>() {
    let directions = [
        (Interest::READ, Readiness::READ),
        (Interest::WRITE, Readiness::WRITE),
        (Interest::BOTH, Readiness::BOTH),
    ];
    for (interest, readiness) in directions {
        let (client, server) = pair(&listen("127.0.0.1:0"));
        let mut watched = Watched::<D>::new();
        watched.add(&server, 1, interest);
        socket::set_abort_on_close(client.as_fd()).unwrap();
        drop(client);
        watched.until(1, readiness);
        assert_eq!(next_received(&server), Received::Failed(Errno(libc::ECONNRESET)));
    }
}

/// Rule 10: an established connect is writable.
pub fn a_connect_is_writable_when_it_has_ended<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let (client, _) = start_connect(listener.endpoint());
    let mut watched = Watched::<D>::new();
    watched.add(&client, 1, Interest::WRITE);
    watched.until(1, Readiness::WRITE);
    assert_eq!(socket::connect_result(client.as_fd()), Connecting::Done);
}

/// Rules 9 and 10: a refused connect is writable.
pub fn a_refused_connect_is_writable<D: Driver>() {
    let free = listen("127.0.0.1:0").endpoint().clone();
    let (client, started) = start_connect(&free);
    if started != Connecting::InProgress {
        return; // some systems refuse within the call
    }
    let mut watched = Watched::<D>::new();
    watched.add(&client, 1, Interest::WRITE);
    watched.until(1, Readiness::WRITE);
    assert_eq!(socket::connect_result(client.as_fd()), Connecting::Failed(Errno(libc::ECONNREFUSED)));
}

/// Rule 7: a listener is readable while connections wait.
pub fn a_listener_is_readable_while_a_connection_waits<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    watched.add(&listener, 1, Interest::READ);
    watched.expect_silence();
    let _clients = [start_connect(listener.endpoint()), start_connect(listener.endpoint())];
    watched.until(1, Readiness::READ);
    accept(&listener);
    watched.until(1, Readiness::READ);
    accept(&listener);
    assert!(matches!(listener.accept(), AcceptResult::WouldBlock));
    watched.expect_silence();
}

/// Rule 20: only the ready sockets are reported, among many idle ones.
pub fn only_the_ready_ones_of_many_are_reported<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut watched = Watched::<D>::new();
    let pairs: Vec<_> = (0..100).map(|_| pair(&listener)).collect();
    for (key, (_, server)) in (0..).zip(&pairs) {
        watched.add(server, key, Interest::READ);
    }
    watched.expect_silence();
    for ready in [0, 41, 99] {
        assert_eq!(socket::send(pairs[ready].0.as_fd(), b"x"), Sent::Bytes(1));
        assert_eq!(watched.batch(), [(ready as u64, Readiness::READ)]);
        assert_eq!(receive_exactly(&pairs[ready].1, 1), b"x");
    }
    watched.expect_silence();
}

/// Rule 13: ten sockets are always ready and two events fit, so a driver that always starts at the same socket starves
/// eight.
pub fn no_socket_is_left_out_when_the_slice_is_short<D: Driver>() {
    let listener = listen("127.0.0.1:0");
    let mut driver = D::new(64).unwrap();
    let pairs: Vec<_> = (0..10).map(|_| pair(&listener)).collect();
    for (key, (_, server)) in (0..).zip(&pairs) {
        driver.register(server.as_fd(), key, Interest::WRITE).unwrap();
    }
    let mut reported = [0; 10];
    for _ in 0..50 {
        let mut events = [Event::default(); 2];
        let count = driver.wait(Some(core::time::Duration::ZERO), &mut events).unwrap();
        for event in &events[..count] {
            reported[usize::try_from(event.key).unwrap()] += 1;
        }
    }
    assert!(reported.iter().all(|times| *times >= 5), "{reported:?}");
}

/// Rule 13: a wait that leaves more than one place of the slice free has reported every socket, even after waits
/// without room.
pub fn no_socket_is_left_out_when_the_slice_is_not_full<D: Driver>() {
    const SOCKETS: usize = 20;
    let listener = listen("127.0.0.1:0");
    let mut driver = D::new(64).unwrap();
    let pairs: Vec<_> = (0..SOCKETS).map(|_| pair(&listener)).collect();
    for (key, (_, server)) in (0..).zip(&pairs) {
        driver.register(server.as_fd(), key, Interest::WRITE).unwrap();
    }
    for places in [SOCKETS + 2, SOCKETS / 2, SOCKETS + 2, 1, 3, 2 * SOCKETS] {
        let mut events = [Event::default(); 2 * SOCKETS];
        let slice = &mut events[..places];
        let count = driver.wait(Some(core::time::Duration::ZERO), slice).unwrap();
        let mut keys: Vec<_> = slice[..count].iter().map(|event| event.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let all = keys.len() == SOCKETS;
        assert!(all || count + 1 >= places, "{count} events of {SOCKETS} sockets with {places} places");
    }
}
