//! Helpers for tests with sockets: pairs of connected sockets, and bounded waiting.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;

use lightcone_unix::address::{PeerAddress, SocketAddress};
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::listener::{AcceptResult, ListenOptions, ListenSocket};
use lightcone_unix::socket::{self, Connecting, Received, Sent};

/// Calls `ask` every millisecond until it returns a value, for at most five seconds.
///
/// # Panics
///
/// After five seconds.
pub fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..5_000 {
        if let Some(answer) = ask() {
            return answer;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("{what}: not within five seconds");
}

/// Creates a listener with the default options.
pub fn listen(endpoint: &str) -> ListenSocket {
    ListenSocket::bind(&endpoint.parse().unwrap(), &ListenOptions::default()).unwrap()
}

/// Accepts the next connection.
pub fn accept(listener: &ListenSocket) -> (OwnedFd, PeerAddress) {
    soon("accept", || match listener.accept() {
        AcceptResult::Accepted(fd, peer) => Some((fd, peer)),
        AcceptResult::WouldBlock | AcceptResult::Retry(_) => None,
        lost @ (AcceptResult::OutOfDescriptors(_) | AcceptResult::Failed(_)) => panic!("{lost:?}"),
    })
}

/// Starts a connect, and returns the socket and the result of the call.
pub fn start_connect(endpoint: &Endpoint) -> (OwnedFd, Connecting) {
    let client = socket::stream_socket(endpoint).unwrap();
    let connecting = socket::connect(client.as_fd(), &SocketAddress::new(endpoint));
    (client, connecting)
}

/// Waits for the result of a connect.
pub fn outcome(client: &OwnedFd, started: Connecting) -> Connecting {
    soon("connect", || {
        match started {
            Connecting::InProgress => Some(socket::connect_result(client.as_fd())),
            ended @ (Connecting::Done | Connecting::Failed(_)) => Some(ended),
        }
        .filter(|ended| *ended != Connecting::InProgress)
    })
}

/// Returns a client and a server socket that are connected through the listener.
pub fn pair(listener: &ListenSocket) -> (OwnedFd, OwnedFd) {
    let (client, started) = start_connect(listener.endpoint());
    let (server, _) = accept(listener);
    assert_eq!(outcome(&client, started), Connecting::Done);
    (client, server)
}

/// Receives exactly `count` bytes.
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

/// Returns the result of the next receive that is not "would block".
pub fn next_received(fd: &OwnedFd) -> Received {
    let mut buffer = [0; 4_096];
    soon("receive", || {
        Some(socket::receive(fd.as_fd(), &mut buffer)).filter(|it| *it != Received::WouldBlock)
    })
}

/// Sends until the kernel accepts no more bytes, at most 64 MiB, and returns their number.
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
    panic!("64 MiB were accepted");
}

/// A folder for the socket files of one test, which is removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates a folder with a unique name that contains the name of the test.
    pub fn new(test: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("lightcone-{process}-{count}-{test}"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the Unix socket of this name in the folder, in the syntax of endpoints.
    pub fn endpoint(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
