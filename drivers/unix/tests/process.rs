//! Guarantees for the whole process: no descriptor leaks into programs that it starts, and no write raises a signal.
//!
//! In its own process, because it changes the handling of `SIGPIPE`.

#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use std::os::fd::AsFd;

use lightcone_contract::sockets::{Folder, listen, pair};
use lightcone_unix::errno::Errno;
use lightcone_unix::socket::{self, Sent};
use lightcone_unix::waker::{PipeWaker, Waker};

/// Returns the descriptors that are open in a program started by this process.
#[cfg(target_os = "linux")]
fn descriptors_of_a_child() -> Vec<i32> {
    let listing = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    listing.lines().map(|line| line.parse().unwrap()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_is_inherited() {
    use std::os::fd::AsRawFd;

    let folder = Folder::new("inherited");
    let before = descriptors_of_a_child();
    let listeners = [listen("127.0.0.1:0"), listen("[::1]:0"), listen(&folder.endpoint("socket"))];
    let pairs: Vec<_> = listeners.iter().map(pair).collect();
    let pipe = socket::pipe().unwrap();
    let wakers = (PipeWaker::new().unwrap(), lightcone_unix::waker::EventFdWaker::new().unwrap());
    assert_eq!(descriptors_of_a_child(), before);
    for fd in
        [pipe.0.as_raw_fd(), pipe.1.as_raw_fd(), wakers.0.as_fd().as_raw_fd(), wakers.1.as_fd().as_raw_fd()]
    {
        // SAFETY: `F_GETFD` takes no argument.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    drop(pairs);
}

#[test]
fn a_broken_pipe_is_a_result_and_no_signal() {
    // SAFETY: restores the default action and installs no handler. The default would end the process, so the test fails
    // if a signal is raised.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let folder = Folder::new("broken");
    for endpoint in ["127.0.0.1:0", folder.endpoint("socket").as_str()] {
        let (client, server) = pair(&listen(endpoint));
        drop(server);
        let mut last = Sent::WouldBlock;
        // The kernel may accept the first send after the peer's close. The peer responds to it with a reset.
        lightcone_contract::sockets::soon("broken pipe", || {
            last = socket::send(client.as_fd(), b"x");
            matches!(last, Sent::Failed(_)).then_some(())
        });
        assert!(matches!(last, Sent::Failed(Errno(libc::EPIPE | libc::ECONNRESET))), "{last:?}");
        assert_eq!(socket::send_gathered(client.as_fd(), &[b"x", b"y"]), Sent::Failed(Errno(libc::EPIPE)));
    }
    let waker = PipeWaker::new().unwrap();
    let producer = waker.clone();
    drop(waker);
    producer.wake();
}
