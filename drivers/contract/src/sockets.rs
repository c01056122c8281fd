//! What the socket tests share: pairs of connected sockets, and waiting with an end.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;

use lightcone_unix::address::{PeerAddress, SocketAddress};
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::listener::{Accept, ListenOptions, ListenSocket};
use lightcone_unix::socket::{self, Connecting, Received, Sent};

/// Asks again every millisecond, for five seconds at most.
pub fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..5_000 {
        if let Some(answer) = ask() {
            return answer;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("{what}: not within five seconds");
}

/// A listener with the usual options.
pub fn listen(endpoint: &str) -> ListenSocket {
    ListenSocket::bind(&endpoint.parse().unwrap(), &ListenOptions::default()).unwrap()
}

/// The next connection.
pub fn accept(listener: &ListenSocket) -> (OwnedFd, PeerAddress) {
    soon("accept", || match listener.accept() {
        Accept::Accepted(fd, peer) => Some((fd, peer)),
        Accept::WouldBlock | Accept::Retry(_) => None,
        lost @ (Accept::OutOfDescriptors(_) | Accept::Failed(_)) => panic!("{lost:?}"),
    })
}

/// A socket that has begun to connect, and how far it got within the call.
pub fn start_connect(endpoint: &Endpoint) -> (OwnedFd, Connecting) {
    let client = socket::stream_socket(endpoint).unwrap();
    let connecting = socket::connect(client.as_fd(), &SocketAddress::new(endpoint));
    (client, connecting)
}

/// Waits until the connect has come to something.
pub fn outcome(client: &OwnedFd, started: Connecting) -> Connecting {
    soon("connect", || {
        match started {
            Connecting::InProgress => Some(socket::connect_result(client.as_fd())),
            ended @ (Connecting::Done | Connecting::Failed(_)) => Some(ended),
        }
        .filter(|ended| *ended != Connecting::InProgress)
    })
}

/// A client and a server socket, connected over the listener.
pub fn pair(listener: &ListenSocket) -> (OwnedFd, OwnedFd) {
    let (client, started) = start_connect(listener.endpoint());
    let (server, _) = accept(listener);
    assert_eq!(outcome(&client, started), Connecting::Done);
    (client, server)
}

/// Receives until `count` bytes are there.
pub fn receive_exactly(fd: &OwnedFd, count: usize) -> Vec<u8> {
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
pub fn next_received(fd: &OwnedFd) -> Received {
    let mut buffer = [0; 4_096];
    soon("receive", || {
        Some(socket::receive(fd.as_fd(), &mut buffer)).filter(|it| *it != Received::WouldBlock)
    })
}

/// Sends until the kernel takes no more; at most 64 MiB.
pub fn fill(fd: &OwnedFd) -> usize {
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
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The test's name makes the folder's; the process and a count make it unique.
    pub fn new(test: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("lightcone-{process}-{count}-{test}"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where a file of this name goes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The Unix socket of this name, as an endpoint is written.
    pub fn endpoint(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
