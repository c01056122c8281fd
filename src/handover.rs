//! Listeners from outside the process, and the hand-over to a successor.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::{env, fs, io, process, thread};

use command_fds::{CommandFdExt as _, FdMapping};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;

use lightcone_unix::clock::Clock;

use crate::{Error, Handle, Listener};

/// The number of the first descriptor that is passed on (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;
/// The environment variable with the path of the predecessor's socket, to which readiness is reported.
const PREDECESSOR: &str = "LIGHTCONE_PREDECESSOR";
/// The message that is sent there, the same as to a service manager.
const READY: &[u8] = b"READY=1";
/// The longest time that a successor may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the listening sockets that this process inherited: from a service manager by socket activation
/// (`sd_listen_fds(3)`), or from its predecessor by [`start_successor`]. The list is empty if the process was started
/// otherwise.
///
/// Call this first in `main`, before other threads run: it removes the environment variables `LISTEN_FDS` and
/// `LISTEN_PID`, so that programs which this process starts do not take the sockets for theirs. Later calls return an
/// empty list.
///
/// This program can be started by a user or a service manager, and hands over to its successor on `SIGUSR2`:
///
/// ```no_run
/// use core::time::Duration;
/// use lightcone::http::Http;
/// use lightcone::{Builder, hand_over_on_signal, inherited_listeners, notify_ready, shutdown_on_signals};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let inherited = inherited_listeners()?;
///     let engine = Builder::new()
///         .start(|_poller| Http::new().get("/", |_request, response| response.text("hello")))?;
///     let grace = Duration::from_secs(5);
///     shutdown_on_signals(engine.handle(), grace)?;
///     let mut listeners = Vec::new();
///     for socket in inherited {
///         listeners.push(engine.listen_on(socket)?);
///     }
///     if listeners.is_empty() {
///         listeners.push(engine.listen("127.0.0.1:8080")?);
///     }
///     hand_over_on_signal(engine.handle(), grace, listeners, |started| match started {
///         Ok(successor) => println!("handed over to process {}", successor.id()),
///         Err(error) => eprintln!("cannot hand over: {error}"),
///     })?;
///     notify_ready()?;
///     engine.join();
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// If an inherited descriptor is not a TCP or Unix stream socket.
pub fn inherited_listeners() -> io::Result<Vec<OwnedFd>> {
    let mut inherited = ListenFd::from_env();
    let mut sockets = Vec::with_capacity(inherited.len());
    for index in 0..inherited.len() {
        let socket = match inherited.take_tcp_listener(index) {
            Ok(socket) => socket.map(OwnedFd::from),
            Err(_not_tcp) => inherited.take_unix_listener(index)?.map(OwnedFd::from),
        };
        sockets.extend(socket);
    }
    Ok(sockets)
}

/// Reports that this process is ready to serve: to the service manager (`sd_notify(3)`), if it waits for that, and to
/// the predecessor, if there is one. Call it once, when all listeners are open.
///
/// # Errors
///
/// If one of the two expects the report but cannot be reached.
pub fn notify_ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])?;
    let Some(predecessor) = env::var_os(PREDECESSOR) else { return Ok(()) };
    match UnixDatagram::unbound()?.send_to(READY, predecessor) {
        // the predecessor has ended, or this process was started by a successor that kept the variable
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(())
        }
        sent => sent.map(drop),
    }
}

/// Starts a process that listens on the same sockets, and waits until it has called [`notify_ready`].
///
/// This process goes on accepting connections, also when the successor is ready: close its listeners or shut its engine
/// down then. A successor that is not ready within `patience` is killed.
///
/// The process finds the sockets by [`inherited_listeners`], as descriptors from 3 on. Other programs that support
/// socket activation can be started as well, if they do not insist on `LISTEN_PID`, and if they report that they are
/// ready: by the datagram `READY=1` to the Unix socket whose path is in the environment variable
/// `LIGHTCONE_PREDECESSOR`.
///
/// # Errors
///
/// If the process cannot be started, ends before it is ready, or is not ready in time.
pub fn start_successor(
    mut command: Command,
    listeners: Vec<OwnedFd>,
    patience: Duration,
) -> io::Result<Child> {
    let rendezvous = Rendezvous::new()?;
    let mappings = listeners.into_iter().zip(FIRST..);
    let mappings: Vec<_> = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
    command
        .env("LISTEN_FDS", mappings.len().to_string())
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDNAMES");
    command.env_remove("LISTEN_FDS_FIRST_FD"); // an extension of `listenfd`
    command.env(PREDECESSOR, &rendezvous.path);
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    let mut child = command.spawn()?;
    match rendezvous.wait_ready(&mut child, patience) {
        Ok(()) => Ok(child),
        Err(error) => {
            let _ = child.kill(); // it may have ended already
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Starts this program again on `SIGUSR2`, and hands the listeners over to the new process: for an upgrade, or for a
/// new configuration, without a moment in which connections are refused. [`inherited_listeners`] has an example.
///
/// | step | effect |
/// | --- | --- |
/// | the signal comes | the program is started with the same arguments and environment, and finds the sockets by [`inherited_listeners`] |
/// | the successor calls [`notify_ready`] | `report` receives the process, and this engine [shuts down](Handle::shutdown) with the grace time |
/// | the successor fails, or takes longer than a minute | `report` receives the error, and this process goes on serving; the next signal tries again |
///
/// Connections stay with the process that accepted them. Those that wait in the queue are accepted by either process. A
/// service manager, if there is one, is sent the process id of the successor (`MAINPID`).
///
/// Send the signal to this process alone, by its id: a successor that is still starting would be ended by it. A program
/// with several engines calls this once, with the listeners of all of them, and shuts the others down in `report`.
///
/// Under a service manager that ends a service with its first process, such as `systemd` with `Type=simple` or a
/// container, a hand-over ends the service. With `systemd`, use `Type=notify` and `NotifyAccess=all`, and
/// `ExecReload=kill -USR2 $MAINPID`; `examples/systemd` in the repository has complete units.
///
/// A thread named `lightcone-handover` waits for the signal until a successor has taken over or the process ends, and
/// keeps the handle for as long.
///
/// # Errors
///
/// If the system refuses the signal's handler or the thread.
pub fn hand_over_on_signal<M: Send + 'static>(
    engine: Handle<M>,
    grace: Duration,
    listeners: Vec<Listener<M>>,
    mut report: impl FnMut(io::Result<&Child>) + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGUSR2])?;
    let obey = move || {
        for _signal in signals.forever() {
            match succeed(&listeners) {
                Ok(child) => {
                    report(Ok(&child));
                    engine.shutdown(grace);
                    return;
                }
                Err(error) => report(Err(error)),
            }
        }
    };
    thread::Builder::new().name("lightcone-handover".into()).spawn(obey).map(drop)
}

/// Starts this program again, with duplicates of the listeners.
fn succeed<M>(listeners: &[Listener<M>]) -> io::Result<Child> {
    let sockets: Result<Vec<_>, Error> = listeners.iter().map(Listener::duplicate).collect();
    let sockets = sockets.map_err(io::Error::other)?.into_iter().flatten().collect();
    // Not `current_exe`: on Linux, that is the old file after the program has been replaced.
    let mut arguments = env::args_os();
    let mut command = Command::new(arguments.next().unwrap_or_default());
    command.args(arguments);
    let child = start_successor(command, sockets, PATIENCE)?;
    // An error is no reason to fail: the successor serves, and the service manager may not be interested.
    let _ = sd_notify::notify(&[NotifyState::MainPid(child.id())]);
    Ok(child)
}

/// A socket on which a successor reports that it is ready, in a folder that no other user can enter.
#[derive(Debug)]
struct Rendezvous {
    folder: PathBuf,
    path: PathBuf,
    socket: UnixDatagram,
}

impl Rendezvous {
    /// The interval of checks whether the successor still runs.
    const LOOK: Duration = Duration::from_millis(50);
    /// The maximum number of folder names that are tried.
    const NAMES: u32 = 100;

    fn new() -> io::Result<Self> {
        let folder = Self::folder()?;
        let path = folder.join("ready");
        match UnixDatagram::bind(&path) {
            Ok(socket) => Ok(Self { folder, path, socket }),
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    fn folder() -> io::Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut failed = io::ErrorKind::AlreadyExists.into();
        for _ in 0..Self::NAMES {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let folder = env::temp_dir().join(format!("lightcone-{}-{count}", process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(folder),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failed = error,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }

    /// Waits until the successor reports that it is ready.
    fn wait_ready(&self, child: &mut Child, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(Self::LOOK))?;
        let give_up = Clock::now_ms().saturating_add(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let mut message = [0; READY.len() + 1];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) if message.get(..length) == Some(READY) => return Ok(()),
                Err(error) if !is_timeout(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("the successor ended before it was ready: {status}")));
            }
            if Clock::now_ms() >= give_up {
                let text = format!("the successor was not ready within {patience:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // Ignore errors: the folder of temporary files may have been cleaned already.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command
    }

    fn sockets(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap().into()).collect()
    }

    #[test]
    fn a_successor_that_ends_is_an_error() {
        let error = start_successor(shell("exit 3"), sockets(1), Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.to_string(), "the successor ended before it was ready: exit status: 3");
        assert!(start_successor(Command::new("/no/such/program"), Vec::new(), PATIENCE).is_err());
    }

    #[test]
    fn a_successor_that_is_never_ready_is_killed() {
        let hangs = shell("exec sleep 1000");
        let error = start_successor(hangs, sockets(2), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the successor was not ready within 200ms");
    }

    #[test]
    fn a_successor_finds_the_sockets() {
        let report = r#"
            for descriptor in 3 4; do test -S /dev/fd/$descriptor || exit 50; done
            test -S "$LIGHTCONE_PREDECESSOR" || exit 60
            exit "$LISTEN_FDS${LISTEN_PID-}${LISTEN_FDNAMES-}""#;
        let mut command = shell(report);
        command.env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "http");
        let error = start_successor(command, sockets(2), Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.to_string(), "the successor ended before it was ready: exit status: 2");
    }

    #[test]
    fn the_rendezvous_leaves_nothing_behind() {
        let rendezvous = Rendezvous::new().unwrap();
        let folder = rendezvous.folder.clone();
        assert!(folder.is_dir());
        let noise = UnixDatagram::unbound().unwrap();
        noise.send_to(b"READY=0", &rendezvous.path).unwrap();
        noise.send_to(b"READY=11", &rendezvous.path).unwrap();
        let mut child = shell("exec sleep 1000").spawn().unwrap();
        let waited = rendezvous.wait_ready(&mut child, Duration::from_millis(100));
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
        noise.send_to(READY, &rendezvous.path).unwrap();
        rendezvous.wait_ready(&mut child, Duration::from_secs(30)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(rendezvous);
        assert!(!folder.exists());
    }
}
