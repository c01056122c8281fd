//! What the socket tests share: pairs of connected sockets, and waiting with an end.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "as in every test: a failure is a panic")]

use core::time::Duration;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;

use lightcone_unix::address::{PeerAddress, SocketAddress};
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::listener::{Accept, ListenOptions, ListenSocket};
use lightcone_unix::socket::{self, Connecting, Received, Sent};

/// Asks again every millisecond, for five seconds at most.
pub(crate) fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..5_000 {
        if let Some(answer) = ask() {
            return answer;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("{what}: not within five seconds");
}

pub(crate) fn listen(endpoint: &str) -> ListenSocket {
    ListenSocket::bind(&endpoint.parse().unwrap(), &ListenOptions::default()).unwrap()
}

pub(crate) fn accept(listener: &ListenSocket) -> (OwnedFd, PeerAddress) {
    soon("accept", || match listener.accept() {
        Accept::Accepted(fd, peer) => Some((fd, peer)),
        Accept::WouldBlock | Accept::Retry(_) => None,
        lost @ (Accept::OutOfDescriptors(_) | Accept::Failed(_)) => panic!("{lost:?}"),
    })
}

pub(crate) fn start_connect(endpoint: &Endpoint) -> (OwnedFd, Connecting) {
    let client = socket::stream_socket(endpoint).unwrap();
    let connecting = socket::connect(client.as_fd(), &SocketAddress::new(endpoint));
    (client, connecting)
}

/// Waits until the connect has come to something.
pub(crate) fn outcome(client: &OwnedFd, started: Connecting) -> Connecting {
    soon("connect", || {
        match started {
            Connecting::InProgress => Some(socket::connect_result(client.as_fd())),
            ended @ (Connecting::Done | Connecting::Failed(_)) => Some(ended),
        }
        .filter(|ended| *ended != Connecting::InProgress)
    })
}

/// A client and a server socket, connected over the listener.
pub(crate) fn pair(listener: &ListenSocket) -> (OwnedFd, OwnedFd) {
    let (client, started) = start_connect(listener.endpoint());
    let (server, _) = accept(listener);
    assert_eq!(outcome(&client, started), Connecting::Done);
    (client, server)
}

/// Receives until `count` bytes are there.
pub(crate) fn receive_exactly(fd: &OwnedFd, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 65_536];
    while all.len() < count {
        let room = buffer.len().min(count - all.len());
        all.extend(soon("bytes", || match socket::receive(fd.as_fd(), &mut buffer[..room]) {
            Received::Bytes(received) => Some(buffer[..received].to_vec()),
            Received::WouldBlock => None,
            over @ (Received::End | Received::Failed(_)) => panic!("{over:?}"),
        }));
    }
    all
}

/// What the next receive brings, "would block" aside.
pub(crate) fn next_received(fd: &OwnedFd) -> Received {
    let mut buffer = [0; 4_096];
    soon("receive", || {
        Some(socket::receive(fd.as_fd(), &mut buffer)).filter(|it| *it != Received::WouldBlock)
    })
}

/// Sends until the kernel takes no more; at most 64 MiB.
pub(crate) fn fill(fd: &OwnedFd) -> usize {
    let bytes = vec![7; 65_536];
    let mut total = 0;
    for _ in 0..1_024 {
        match socket::send(fd.as_fd(), &bytes) {
            Sent::Bytes(sent) => total += sent,
            Sent::WouldBlock => return total,
            Sent::Failed(errno) => panic!("{errno}"),
        }
    }
    panic!("64 MiB were taken");
}

/// A folder of its own for the socket files of one test, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lightcone-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn endpoint(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
