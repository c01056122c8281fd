//! Connecting, sending and receiving over the loopback interface and over Unix sockets.

#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use std::os::fd::AsFd;

use lightcone_contract::sockets::{
    Folder, accept, fill, listen, next_received, outcome, pair, receive_exactly, soon, start_connect,
};
use lightcone_unix::address::{PeerAddress, SocketAddress};
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::errno::Errno;
use lightcone_unix::socket::{self, Connecting, GATHER_MAX, Received, Sent};

fn bytes_go_both_ways(endpoint: &str) {
    let listener = listen(endpoint);
    let (client, server) = pair(&listener);
    assert_eq!(socket::send(client.as_fd(), b"question"), Sent::Bytes(8));
    assert_eq!(receive_exactly(&server, 8), b"question");
    assert_eq!(socket::send(server.as_fd(), b"answer"), Sent::Bytes(6));
    assert_eq!(receive_exactly(&client, 6), b"answer");
    let mut buffer = [0; 8];
    assert_eq!(socket::receive(client.as_fd(), &mut buffer), Received::WouldBlock);
}

#[test]
fn ipv4() {
    bytes_go_both_ways("127.0.0.1:0");
}

#[test]
fn ipv6() {
    bytes_go_both_ways("[::1]:0");
}

#[test]
fn unix_paths() {
    let folder = Folder::new("unix_paths");
    bytes_go_both_ways(&folder.endpoint("socket"));
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names() {
    bytes_go_both_ways(&format!("unix:@lightcone-transfer-{}", std::process::id()));
}

#[test]
fn the_peer_comes_with_the_accept() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let listener = listen(any);
        let (client, _) = start_connect(listener.endpoint());
        let (server, peer) = accept(&listener);
        let own = socket::local_address(client.as_fd()).unwrap().to_inet().unwrap();
        assert_eq!(peer, PeerAddress::Inet(own));
        assert_eq!(socket::peer_address(server.as_fd()).unwrap().to_inet(), Some(own));
        assert_eq!(socket::local_address(server.as_fd()).unwrap().to_inet(), listener.endpoint().as_inet());
    }
    let folder = Folder::new("the_peer");
    let listener = listen(&folder.endpoint("socket"));
    let (_client, _) = start_connect(listener.endpoint());
    assert_eq!(accept(&listener).1, PeerAddress::Unix);
}

#[test]
fn a_unix_socket_connects_at_once() {
    let folder = Folder::new("at_once");
    let listener = listen(&folder.endpoint("socket"));
    let (client, started) = start_connect(listener.endpoint());
    assert_eq!(started, Connecting::Done);
    assert_eq!(socket::connect_result(client.as_fd()), Connecting::Done);
}

#[test]
fn a_refused_connect_returns_its_error() {
    let free = listen("127.0.0.1:0").endpoint().clone();
    let (client, started) = start_connect(&free);
    assert_eq!(outcome(&client, started), Connecting::Failed(Errno(libc::ECONNREFUSED)));
    let nobody: Endpoint = Folder::new("refused").endpoint("nobody").parse().unwrap();
    assert_eq!(start_connect(&nobody).1, Connecting::Failed(Errno(libc::ENOENT)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_connect_without_an_answer_stays_in_progress() {
    use lightcone_unix::listener::{ListenOptions, ListenSocket};

    let options = ListenOptions { backlog: 0, ..ListenOptions::default() };
    let listener = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), &options).unwrap();
    // The queue holds one connection; the handshakes of the others are dropped until it is accepted.
    let clients: Vec<_> = (0..4).map(|_| start_connect(listener.endpoint()).0).collect();
    let results: Vec<_> = clients.iter().map(|client| socket::connect_result(client.as_fd())).collect();
    assert_eq!(results[0], Connecting::Done);
    assert_eq!(results[3], Connecting::InProgress);
}

#[test]
fn a_peer_that_does_not_read_makes_sends_short() {
    let listener = listen("127.0.0.1:0");
    let (client, server) = pair(&listener);
    socket::set_send_buffer(client.as_fd(), 16_384).unwrap();
    let total = fill(&client);
    assert_eq!(socket::send(client.as_fd(), b"more"), Sent::WouldBlock);
    assert_eq!(socket::send_gathered(client.as_fd(), &[b"more", b"yet"]), Sent::WouldBlock);
    assert_eq!(receive_exactly(&server, total), vec![7; total]);
    soon("room", || matches!(socket::send(client.as_fd(), b"more"), Sent::Bytes(4)).then_some(()));
}

#[test]
fn pieces_arrive_in_order_as_one() {
    let listener = listen("127.0.0.1:0");
    let (client, server) = pair(&listener);
    assert_eq!(socket::send_gathered(client.as_fd(), &[b"a"]), Sent::Bytes(1));
    assert_eq!(socket::send_gathered(client.as_fd(), &[b"bc", b"", b"def"]), Sent::Bytes(5));
    assert_eq!(receive_exactly(&server, 6), b"abcdef");
}

#[test]
fn pieces_beyond_the_maximum_are_left() {
    let listener = listen("127.0.0.1:0");
    let (client, server) = pair(&listener);
    let letters: Vec<[u8; 1]> = (0..20).map(|at| [b'a' + at]).collect();
    let pieces: Vec<&[u8]> = letters.iter().map(<[u8; 1]>::as_slice).collect();
    assert_eq!(socket::send_gathered(client.as_fd(), &pieces[..GATHER_MAX]), Sent::Bytes(16));
    assert_eq!(socket::send_gathered(client.as_fd(), &pieces), Sent::Bytes(16));
    assert_eq!(receive_exactly(&server, 32), b"abcdefghijklmnopabcdefghijklmnop");
}

#[test]
fn a_gathered_send_can_be_short_in_the_middle_of_a_piece() {
    let listener = listen("127.0.0.1:0");
    let (client, server) = pair(&listener);
    socket::set_send_buffer(client.as_fd(), 16_384).unwrap();
    let piece: Vec<u8> = (0..=255).cycle().take(1_000_001).collect();
    let pieces = [piece.as_slice(); 8];
    let mut total = 0;
    for _ in 0..64 {
        match socket::send_gathered(client.as_fd(), &pieces) {
            // Only the bytes of the first send are checked: the next one does not continue where the first one ended.
            Sent::Bytes(sent) if total == 0 => total = sent,
            Sent::Bytes(_) | Sent::WouldBlock => break,
            Sent::Failed(errno) => panic!("{errno}"),
        }
    }
    assert!(total > 0 && total < 8 * piece.len());
    let expected: Vec<u8> = pieces.concat()[..total].to_vec();
    assert_eq!(receive_exactly(&server, total), expected);
}

#[test]
fn the_end_comes_after_the_last_bytes_and_the_way_back_stays_open() {
    let listener = listen("127.0.0.1:0");
    let (client, server) = pair(&listener);
    assert_eq!(socket::send(client.as_fd(), b"last"), Sent::Bytes(4));
    socket::shutdown_write(client.as_fd()).unwrap();
    assert_eq!(receive_exactly(&server, 4), b"last");
    assert_eq!(next_received(&server), Received::End);
    assert_eq!(next_received(&server), Received::End);
    assert_eq!(socket::send(server.as_fd(), b"still"), Sent::Bytes(5));
    assert_eq!(receive_exactly(&client, 5), b"still");
    assert_eq!(socket::send(client.as_fd(), b"x"), Sent::Failed(Errno(libc::EPIPE)));
}

#[test]
fn an_abort_resets_the_peer() {
    let listener = listen("127.0.0.1:0");
    let (client, server) = pair(&listener);
    socket::set_abort_on_close(client.as_fd()).unwrap();
    drop(client);
    assert_eq!(next_received(&server), Received::Failed(Errno(libc::ECONNRESET)));
    assert_eq!(socket::shutdown_write(server.as_fd()), Err(Errno(libc::ENOTCONN)));
}

#[test]
#[should_panic(expected = "empty buffer")]
fn receiving_into_nothing_is_a_mistake() {
    let listener = listen("127.0.0.1:0");
    let (client, _server) = pair(&listener);
    let _ = socket::receive(client.as_fd(), &mut []);
}

#[test]
fn a_socket_does_not_connect_to_itself() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let endpoint: Endpoint = address.parse().unwrap();
        let socket = socket::stream_socket(&endpoint).unwrap();
        socket::bind(socket.as_fd(), &SocketAddress::new(&endpoint)).unwrap();
        let own = socket::local_address(socket.as_fd()).unwrap();
        let refused = Connecting::Failed(Errno(libc::ECONNREFUSED));
        let mut result = socket::connect(socket.as_fd(), &own);
        if result == Connecting::InProgress {
            result = soon("the outcome", || {
                Some(socket::connect_result(socket.as_fd()))
                    .filter(|result| *result != Connecting::InProgress)
            });
        }
        assert_eq!(result, refused, "{address}");
    }
}

/// Checks that the amount of undelivered output decreases when the peer receives, down to zero.
fn what_is_undelivered(endpoint: &str) {
    let listener = listen(endpoint);
    let (client, server) = pair(&listener);
    let told = socket::undelivered(server.as_fd());
    assert_eq!(told.is_some(), socket::UNDELIVERED_REPORTED);
    let Some(empty) = told else { return };
    assert_eq!(empty, 0);
    fill(&server);
    let full = socket::undelivered(server.as_fd()).unwrap();
    assert!(full > 0, "a full socket holds no undelivered bytes");
    let mut buffer = vec![0; 64 * 1_024];
    let less = soon("delivery", || {
        let _ = socket::receive(client.as_fd(), &mut buffer);
        socket::undelivered(server.as_fd()).filter(|now| *now < full)
    });
    assert!(less < full);
    soon("all of it", || {
        let _ = socket::receive(client.as_fd(), &mut buffer);
        socket::undelivered(server.as_fd()).filter(|now| *now == 0)
    });
}

#[test]
fn undelivered_bytes_are_reported() {
    what_is_undelivered("127.0.0.1:0");
    let folder = Folder::new("undelivered");
    what_is_undelivered(&folder.endpoint("socket"));
}
