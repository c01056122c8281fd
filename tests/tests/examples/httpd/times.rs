use core::time::Duration;
use std::thread::sleep;
use std::time::Instant;

use crate::program::Program;

use super::client::{Client, SECOND, get, poll};

#[test]
fn a_head_that_comes_too_slowly_is_answered_by_408() {
    let server = Program::start("httpd", &["--pollers", "1", "--header-timeout", "1"]);
    let (mut slow, begun) = (Client::new(&server), Instant::now());
    slow.stream().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    slow.send("GET /foo HTTP/1.1\r\nHost: a\r\n");
    // Each byte is progress, but the head is never complete.
    while slow.stream().peek(&mut [0]).is_err() {
        slow.send("X: y\r\n");
        assert_eq!(get(&server, "/foo").text(), "bar", "other clients are not delayed");
        assert!(begun.elapsed() < Duration::from_secs(20), "the connection never ends");
    }
    assert!(begun.elapsed() >= SECOND, "{:?} are less than a second", begun.elapsed());
    let answer = slow.answer();
    assert_eq!((answer.status, answer.text()), (408, "408 Request Timeout\n"));
    slow.ended();
    let line = "\nlightcone_http_refusals_total{poller=\"0\",status=\"408\"} 1\n";
    poll(|| get(&server, "/metrics").text().contains(line).then_some(()));
}

#[test]
fn an_idle_connection_is_closed_before_and_after_a_request() {
    let server = Program::start("httpd", &["--pollers", "1", "--idle-timeout", "1"]);
    for requests in [0, 2] {
        let begun = Instant::now();
        let mut client = Client::new(&server);
        for _ in 0..requests {
            assert_eq!(client.get("/foo").text(), "bar");
        }
        client.ended();
        let waited = begun.elapsed();
        assert!((SECOND..20 * SECOND).contains(&waited), "after {requests} requests: {waited:?}");
    }
    let line = "\nlightcone_connections_closed_total{poller=\"0\",reason=\"timeout\"} 2\n";
    poll(|| get(&server, "/metrics").text().contains(line).then_some(()));
}

/// A full server closes the connection that has been idle longest for each new one.
#[test]
fn an_idle_connection_makes_room_for_a_new_one() {
    let options = ["--pollers", "1", "--max-connections", "4", "--evict", "1"];
    let server = Program::start("httpd", &options);
    let mut idle: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::new(&server);
            assert_eq!(client.get("/foo").text(), "bar");
            // Sockets that have been idle since the same millisecond go in any order.
            sleep(SECOND / 100);
            client
        })
        .collect();
    for _ in 0..4 {
        let begun = Instant::now();
        let mut client = Client::new(&server);
        assert_eq!(client.get("/foo").text(), "bar");
        assert!(begun.elapsed() < 20 * SECOND);
        idle.remove(0).ended();
        idle.push(client);
    }
    let line = "\nlightcone_connections_closed_total{poller=\"0\",reason=\"evicted\"} 5\n";
    poll(|| get(&server, "/metrics").text().contains(line).then_some(()));
}

/// Time during which the process is stopped does not count against its peers: received bytes are read before timeouts
/// fire.
#[test]
fn a_server_that_was_stopped_does_not_take_its_clients_for_idle() {
    for driver in ["epoll", "select"] {
        let server = Program::start("httpd", &["--driver", driver, "--pollers", "1", "--idle-timeout", "2"]);
        let mut clients = [Client::new(&server), Client::new(&server), Client::new(&server)];
        for client in &mut clients {
            assert_eq!(client.get("/foo").text(), "bar");
        }
        server.signal("STOP");
        for client in &mut clients {
            client.send("GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        sleep(Duration::from_millis(2_500));
        server.signal("CONT");
        for client in &mut clients {
            assert_eq!(client.answer().text(), "bar", "{driver}");
        }
    }
}
