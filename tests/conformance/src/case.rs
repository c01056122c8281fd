//! One engine with a scripted handler, its trace, and the checks at its end.

use core::time::Duration;
use std::sync::{Arc, mpsc};
use std::thread;

use lightcone_contract::sockets::Folder;
use lightcone_core::{Address, ContractChecker, Handler, Origin, PollerId, Timeouts};
use lightcone_unix::driver::Driver;
use lightcone_unix::{Builder, Engine, Handle, Listener, Report};

use crate::peer::{Peer, Peers};
use crate::trace::{Trace, What};

/// The user data of every socket of a case.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// The number of the socket. Sockets are numbered from 0 in the order of their admission.
    pub socket: usize,
    /// A counter for the script.
    pub count: usize,
}

/// A socket, as passed to scripts.
pub type Socket<'a> = lightcone_core::Socket<'a, Data>;
/// An event, as passed to scripts.
pub type Event = lightcone_core::Event<u64>;
/// The context, as passed to scripts.
pub type Context<'a> = lightcone_core::Context<'a, u64>;

/// A handler that records each event and then runs the script.
struct Actor {
    poller: PollerId,
    trace: Trace,
    script: Arc<Script>,
}

struct Script {
    admit: Box<Admit>,
    act: Box<Act>,
}

type Admit = dyn Fn(Origin, &Address) -> bool + Send + Sync;
type Act = dyn Fn(&mut Socket<'_>, Event, &mut Context<'_>) + Send + Sync;

impl Handler for Actor {
    type Data = Data;
    type Message = u64;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Data> {
        if !(self.script.admit)(origin, peer) {
            return None;
        }
        Some(Data { socket: self.trace.admit(origin, *peer, self.poller), count: 0 })
    }

    fn event(&mut self, socket: &mut Socket<'_>, event: Event, cx: &mut Context<'_>) {
        let what = What::of(&event, socket.bytes().len(), socket.queued());
        let now = cx.now().as_millis();
        self.trace.add(socket.data.socket, Some(socket.token()), self.poller, now, what);
        (self.script.act)(socket, event, cx);
    }
}

/// One engine under test.
///
/// At its end, every guarantee that does not depend on the case is checked.
#[derive(Debug)]
pub struct Case {
    engine: Option<Engine<u64>>,
    handle: Handle<u64>,
    /// The events so far.
    pub trace: Trace,
    panics: u64,
    folder: Folder,
}

/// Returns a builder with small limits: one poller, 64 sockets, and 1 KiB blocks of which a socket may queue four.
pub fn small<D: Driver>() -> Builder<D> {
    let timeouts = Timeouts { linger: Some(Duration::from_millis(500)), ..Timeouts::DEFAULT };
    Builder::new()
        .pollers(1)
        .sockets(64)
        .block_size(1_024)
        .blocks(256, 256)
        .output_limit(4)
        .receive(4_096, 16)
        .timeouts(timeouts)
}

/// Returns the same builder with changed timeouts.
pub fn small_with<D: Driver>(change: impl FnOnce(&mut Timeouts)) -> Builder<D> {
    let mut timeouts = Timeouts { linger: Some(Duration::from_millis(500)), ..Timeouts::DEFAULT };
    change(&mut timeouts);
    small().timeouts(timeouts)
}

impl Case {
    /// Starts an engine that admits every socket and runs `act` in each callback.
    pub fn start<D: Driver>(
        builder: Builder<D>,
        act: impl Fn(&mut Socket<'_>, Event, &mut Context<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::choosy(builder, |_, _| true, act)
    }

    /// Starts an engine that admits only the sockets for which `admit` returns `true`, and runs `act` in each callback.
    pub fn choosy<D: Driver>(
        builder: Builder<D>,
        admit: impl Fn(Origin, &Address) -> bool + Send + Sync + 'static,
        act: impl Fn(&mut Socket<'_>, Event, &mut Context<'_>) + Send + Sync + 'static,
    ) -> Self {
        let trace = Trace::default();
        let script = Arc::new(Script { admit: Box::new(admit), act: Box::new(act) });
        let shared = trace.clone();
        let engine = builder.start(move |poller| {
            // the name of the poller's thread in the system, for cases that measure its processor time
            if let Ok(name) = std::fs::read_link("/proc/thread-self") {
                let id = name.file_name().map(|id| id.to_string_lossy().into_owned());
                shared.add_thread(id.unwrap_or_default());
            }
            let (trace, script) = (shared.clone(), Arc::clone(&script));
            ContractChecker::with_witness(Actor { poller: poller.id(), trace, script }, Peers)
        });
        let engine = engine.unwrap();
        let handle = engine.handle();
        Self { engine: Some(engine), handle, trace, panics: 0, folder: Folder::new("engine") }
    }

    /// Starts a small engine that echoes all bytes.
    pub fn echo<D: Driver>() -> Self {
        Self::start(small::<D>(), echoing)
    }

    /// Sets the number of handler panics that the case expects.
    pub fn expect_panics(&mut self, panics: u64) {
        self.panics = panics;
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine<u64> {
        self.engine.as_ref().unwrap()
    }

    /// Returns the engine's handle.
    pub const fn handle(&self) -> &Handle<u64> {
        &self.handle
    }

    /// Listens on a port that the system chooses.
    pub fn listen(&self) -> Listener<u64> {
        self.engine().listen("127.0.0.1:0").unwrap()
    }

    /// Listens on a new Unix socket.
    pub fn listen_unix(&self) -> Listener<u64> {
        self.engine().listen(self.folder.endpoint("listener")).unwrap()
    }

    /// Returns a Unix endpoint on which there is no listener.
    pub fn unix_path(&self, name: &str) -> String {
        self.folder.endpoint(name)
    }

    /// Opens a new listener and returns a peer that is connected to it.
    pub fn peer(&self) -> Peer {
        Peer::connect(self.listen().endpoint())
    }

    /// Shuts down with a grace time of 5 seconds and checks that every socket has ended.
    pub fn stop(self) -> Report {
        self.stop_within(Duration::from_secs(5))
    }

    /// Shuts down with this grace time and checks that every socket has ended.
    pub fn stop_within(mut self, grace: Duration) -> Report {
        let engine = self.engine.take().unwrap();
        let report = bounded("shutdown", move || engine.shutdown(grace));
        self.check(&report);
        report
    }

    /// Passes the engine to the caller, which ends it. The checks at its end are skipped.
    pub fn give_away(&mut self) -> Engine<u64> {
        self.engine.take().unwrap()
    }

    /// Waits for the end of an engine that is already shutting down, and checks it.
    pub fn join(mut self) -> Report {
        let engine = self.engine.take().unwrap();
        let report = bounded("join", move || engine.join());
        self.check(&report);
        report
    }

    fn check(&self, report: &Report) {
        assert_eq!(report.panics(), self.panics, "panics of handlers");
        self.trace.check_whole();
        assert_eq!(report.opened(), self.trace.count("open") as u64, "opened");
        let closed: u64 = report.pollers.iter().map(|poller| poller.stats.closed_total()).sum();
        assert_eq!(closed, self.trace.count("close") as u64, "closed");
        let refused: u64 = report.pollers.iter().map(|poller| poller.stats.refused).sum();
        assert_eq!(refused, self.trace.count("refused") as u64, "refused");
        assert!(
            self.handle.loads().iter().all(|load| *load == 0),
            "loads are left: {:?}",
            self.handle.loads()
        );
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        if thread::panicking() {
            self.trace.print();
            // its threads may hang: dropping the engine would wait for them and hide the failure
            Box::leak(Box::new(engine));
            return;
        }
        let report = bounded("shutdown", move || engine.shutdown(Duration::from_secs(5)));
        self.check(&report);
    }
}

/// Runs a function that may hang on a separate thread, and returns its result.
///
/// # Panics
///
/// If it takes longer than twice the [`patience`](crate::trace::patience), or if the function itself panics.
pub fn bounded<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(run()));
    match result.recv_timeout(crate::trace::patience() * 2) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().err().unwrap_or_else(|| Box::new("it sent nothing")))
        }
    }
}

/// Handles an event as handlers do by default: closes at the peer's end and at shutdown, aborts at the deadline.
pub fn by_default(socket: &mut Socket<'_>, event: Event) {
    match event {
        Event::PeerClosed | Event::Shutdown => socket.close(),
        Event::Timeout => socket.abort(),
        Event::Open
        | Event::Receive
        | Event::Writable
        | Event::Sent
        | Event::Message(_)
        | Event::Room(_)
        | Event::Refused(_)
        | Event::Close(_) => {}
    }
}

/// Echoes as many bytes as there is room for.
pub fn echo(socket: &mut Socket<'_>) {
    let (mut input, mut output) = socket.stream.split();
    let taken = output.send_some(input.bytes());
    input.consume(taken);
}

/// A script that echoes all bytes, also those that arrived before the peer's end.
pub fn echoing(socket: &mut Socket<'_>, event: Event, _: &mut Context<'_>) {
    match event {
        Event::Receive | Event::Writable => {
            echo(socket);
            if socket.peer_closed() && socket.bytes().is_empty() {
                socket.close();
            }
        }
        // bytes are left because the output is full: `writable` sends them and closes
        Event::PeerClosed if !socket.bytes().is_empty() => {}
        other => by_default(socket, other),
    }
}

/// Consumes all received bytes.
pub fn consume_all(socket: &mut Socket<'_>) {
    socket.consume_all();
}
