//! Listeners: errors with address and cause, socket files, and options of accepted sockets.

#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use core::error::Error as _;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;

use lightcone_contract::sockets::{Folder, accept, listen, outcome, pair, start_connect};
use lightcone_unix::address::PeerAddress;
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::errno::Errno;
use lightcone_unix::listener::{AcceptResult, ListenCause, ListenError, ListenOptions, ListenSocket};
use lightcone_unix::socket::{Connecting, KeepAlive};

fn refused(endpoint: &str) -> ListenError {
    ListenSocket::bind(&endpoint.parse().unwrap(), &ListenOptions::default()).unwrap_err()
}

#[test]
fn the_systems_choice_of_port_is_reported() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let listener = listen(any);
        let bound = listener.endpoint().as_inet().unwrap();
        assert_ne!(bound.port(), 0);
        assert_eq!(bound.ip(), any.parse::<Endpoint>().unwrap().as_inet().unwrap().ip());
    }
}

#[test]
fn an_address_in_use_is_named() {
    let listener = listen("127.0.0.1:0");
    let address = listener.endpoint().to_string();
    let error = refused(&address);
    assert_eq!(error.errno(), Errno(libc::EADDRINUSE));
    assert_eq!(error.endpoint(), listener.endpoint());
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on {address}: the address is in use")), "{text}");
    assert!(text.contains("EADDRINUSE") && error.source().is_none(), "{text}");
}

#[test]
fn an_address_that_is_not_local_is_named() {
    let error = refused("192.0.2.1:80");
    assert_eq!(error.cause(), ListenCause::Os("bind", Errno(libc::EADDRNOTAVAIL)));
    assert!(error.to_string().contains("192.0.2.1:80: no interface has this address"), "{error}");
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let error = refused(&Folder::new("missing").endpoint("no/such/socket"));
    assert_eq!(error.errno(), Errno(libc::ENOENT));
    assert!(error.to_string().contains("the directory does not exist"), "{error}");
}

#[test]
fn no_waiting_connection_is_no_error() {
    assert!(matches!(listen("127.0.0.1:0").accept(), AcceptResult::WouldBlock));
}

#[test]
fn ipv6_and_ipv4_are_two_listeners_on_one_port() {
    // The port that the system chose for IPv6 may be in use for IPv4, so try several.
    let (six, four) = (0..20)
        .find_map(|_| {
            let six = listen("[::]:0");
            let port = six.endpoint().as_inet().unwrap().port();
            let four = format!("0.0.0.0:{port}").parse().unwrap();
            ListenSocket::bind(&four, &ListenOptions::default()).ok().map(|four| (six, four))
        })
        .expect("no port is free for both");
    let port = six.endpoint().as_inet().unwrap().port();
    let (client, started) = start_connect(&format!("127.0.0.1:{port}").parse().unwrap());
    accept(&four);
    assert_eq!(outcome(&client, started), Connecting::Done);
    assert!(matches!(six.accept(), AcceptResult::WouldBlock));
}

#[test]
fn a_shared_port_takes_several_listeners() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let first = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let second = ListenSocket::bind(first.endpoint(), &options).unwrap();
    assert_eq!(first.endpoint(), second.endpoint());
    assert_eq!(refused(&first.endpoint().to_string()).errno(), Errno(libc::EADDRINUSE));
}

fn option(fd: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> libc::c_int {
    let mut value: libc::c_int = 0;
    let mut length: libc::socklen_t = 4;
    let pointer = (&raw mut value).cast();
    // SAFETY: `pointer` is valid for writes of the four bytes of a C int.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, pointer, &raw mut length) };
    assert_eq!(result, 0);
    value
}

#[test]
fn options_reach_accepted_sockets() {
    let keep_alive = KeepAlive {
        idle: core::time::Duration::from_secs(60),
        interval: core::time::Duration::from_secs(10),
        count: 3,
    };
    let options = ListenOptions { keep_alive: Some(keep_alive), ..ListenOptions::default() };
    let listener = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let (_client, server) = pair(&listener);
    assert_ne!(option(&server, libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
    assert_ne!(option(&server, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
    let plain = ListenOptions { nodelay: false, ..ListenOptions::default() };
    let listener = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), &plain).unwrap();
    let (_client, server) = pair(&listener);
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
    assert_eq!(option(&server, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
}

#[test]
fn a_socket_file_goes_with_its_listener() {
    let folder = Folder::new("goes");
    let listener = listen(&folder.endpoint("socket"));
    assert!(folder.path("socket").exists());
    assert_eq!(listener.endpoint().to_string(), folder.endpoint("socket"));
    drop(listener);
    assert!(!folder.path("socket").exists());
}

#[test]
fn a_dead_socket_file_is_replaced() {
    let folder = Folder::new("dead");
    // std does not remove the file, which leaves the same state as a killed server.
    drop(std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap());
    assert!(folder.path("socket").exists());
    let listener = listen(&folder.endpoint("socket"));
    pair(&listener);
}

#[test]
fn a_live_socket_file_is_left_alone() {
    let folder = Folder::new("live");
    let listener = listen(&folder.endpoint("socket"));
    let error = refused(&folder.endpoint("socket"));
    assert_eq!((error.cause(), error.errno()), (ListenCause::Answered, Errno(libc::EADDRINUSE)));
    assert!(error.to_string().contains("in use by another server"), "{error}");
    accept(&listener);
    pair(&listener);
}

#[test]
fn a_live_socket_file_with_a_full_queue_is_left_alone() {
    let folder = Folder::new("full");
    let options = ListenOptions { backlog: 0, ..ListenOptions::default() };
    let endpoint: Endpoint = folder.endpoint("socket").parse().unwrap();
    let _listener = ListenSocket::bind(&endpoint, &options).unwrap();
    let _waiting: Vec<_> = (0..4).map(|_| start_connect(&endpoint)).collect();
    assert_eq!(refused(&folder.endpoint("socket")).cause(), ListenCause::Answered);
    assert!(folder.path("socket").exists());
}

#[test]
fn a_socket_of_another_kind_is_left_alone() {
    let folder = Folder::new("kind");
    let _datagrams = UnixDatagram::bind(folder.path("socket")).unwrap();
    assert_eq!(refused(&folder.endpoint("socket")).cause(), ListenCause::Answered);
    assert!(folder.path("socket").exists());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new("file");
    std::fs::write(folder.path("socket"), "precious").unwrap();
    let error = refused(&folder.endpoint("socket"));
    assert_eq!(error.cause(), ListenCause::NotASocket);
    assert!(error.to_string().contains("is not a socket"), "{error}");
    std::os::unix::fs::symlink(folder.path("socket"), folder.path("link")).unwrap();
    assert_eq!(refused(&folder.endpoint("link")).cause(), ListenCause::NotASocket);
    assert_eq!(std::fs::read_to_string(folder.path("socket")).unwrap(), "precious");
}

#[test]
fn a_successors_file_is_not_removed() {
    let folder = Folder::new("successor");
    let old = listen(&folder.endpoint("socket"));
    std::fs::rename(folder.path("socket"), folder.path("aside")).unwrap();
    let new = listen(&folder.endpoint("socket"));
    drop(old);
    assert!(folder.path("socket").exists());
    pair(&new);
}

#[test]
fn connections_that_end_before_they_are_accepted_do_no_harm() {
    let listener = listen("127.0.0.1:0");
    for _ in 0..16 {
        let (client, started) = start_connect(listener.endpoint());
        assert_eq!(outcome(&client, started), Connecting::Done);
        lightcone_unix::socket::set_abort_on_close(client.as_fd()).unwrap();
    }
    let (client, _) = start_connect(listener.endpoint());
    // Linux returns connections that are already reset; other systems return ECONNABORTED instead.
    let own = lightcone_unix::socket::local_address(client.as_fd()).unwrap().to_inet().unwrap();
    let is_mine =
        |accepted| matches!(accepted, AcceptResult::Accepted(_, PeerAddress::Inet(peer)) if peer == own);
    assert!((0..64).any(|_| is_mine(listener.accept())));
}
