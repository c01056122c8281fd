//! One engine with a scripted handler, its trace, and what must hold at its end.

use core::time::Duration;
use std::sync::{Arc, mpsc};
use std::thread;

use lightcone_contract::sockets::Folder;
use lightcone_core::{Address, ContractChecker, Handler, Origin, PollerId, Timeouts};
use lightcone_unix::driver::Driver;
use lightcone_unix::{Builder, Engine, Handle, Listener, Report};

use crate::peer::{Peer, Peers};
use crate::trace::{Trace, What};

/// What every socket of a case carries.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// Its number: sockets are counted from 0, as they are admitted.
    pub socket: usize,
    /// For the script to count in.
    pub count: usize,
}

/// A socket as scripts see it.
pub type Socket<'a> = lightcone_core::Socket<'a, Data>;
/// An event as scripts see it.
pub type Event = lightcone_core::Event<u64>;
/// The context as scripts see it.
pub type Context<'a> = lightcone_core::Context<'a, u64>;

/// A handler that records what happens and then does what the script says.
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

/// One engine under test. At its end every promise that does not depend on the case is checked.
#[derive(Debug)]
pub struct Case {
    engine: Option<Engine<u64>>,
    handle: Handle<u64>,
    /// What happened.
    pub trace: Trace,
    panics: u64,
    folder: Folder,
}

/// A builder for small things: one poller, 64 sockets, blocks of 1 KiB of which a socket may queue four.
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

/// The same, with such timeouts.
pub fn small_with<D: Driver>(change: impl FnOnce(&mut Timeouts)) -> Builder<D> {
    let mut timeouts = Timeouts { linger: Some(Duration::from_millis(500)), ..Timeouts::DEFAULT };
    change(&mut timeouts);
    small().timeouts(timeouts)
}

impl Case {
    /// Starts an engine that does in every callback what the script says, and admits everybody.
    pub fn start<D: Driver>(
        builder: Builder<D>,
        act: impl Fn(&mut Socket<'_>, Event, &mut Context<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::choosy(builder, |_, _| true, act)
    }

    /// The same, with a choice of whom to admit.
    pub fn choosy<D: Driver>(
        builder: Builder<D>,
        admit: impl Fn(Origin, &Address) -> bool + Send + Sync + 'static,
        act: impl Fn(&mut Socket<'_>, Event, &mut Context<'_>) + Send + Sync + 'static,
    ) -> Self {
        let trace = Trace::default();
        let script = Arc::new(Script { admit: Box::new(admit), act: Box::new(act) });
        let shared = trace.clone();
        let engine = builder.start(move |poller| {
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

    /// A small engine that sends everything back.
    pub fn echo<D: Driver>() -> Self {
        Self::start(small::<D>(), echoing)
    }

    /// So many panics of handlers are part of the case.
    pub fn expect_panics(&mut self, panics: u64) {
        self.panics = panics;
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<u64> {
        self.engine.as_ref().unwrap()
    }

    /// The engine's handle.
    pub const fn handle(&self) -> &Handle<u64> {
        &self.handle
    }

    /// Listens on a port of the system's choice.
    pub fn listen(&self) -> Listener<u64> {
        self.engine().listen("127.0.0.1:0").unwrap()
    }

    /// Listens on a Unix socket of its own.
    pub fn listen_unix(&self) -> Listener<u64> {
        self.engine().listen(self.folder.endpoint("listener")).unwrap()
    }

    /// A Unix endpoint where nobody listens.
    pub fn unix_path(&self, name: &str) -> String {
        self.folder.endpoint(name)
    }

    /// A new listener and a peer that is connected to it.
    pub fn peer(&self) -> Peer {
        Peer::connect(self.listen().endpoint())
    }

    /// Shuts down with some grace; then everything that was begun has ended.
    pub fn stop(self) -> Report {
        self.stop_within(Duration::from_secs(5))
    }

    /// The same, with so much grace.
    pub fn stop_within(mut self, grace: Duration) -> Report {
        let engine = self.engine.take().unwrap();
        let report = bounded("shutdown", move || engine.shutdown(grace));
        self.check(&report);
        report
    }

    /// Gives the engine to whom ends it; what would be checked at its end is not.
    pub fn give_away(&mut self) -> Engine<u64> {
        self.engine.take().unwrap()
    }

    /// Waits for the end of an engine that is shut down already.
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
            // its threads may hang, and that must not hide the failure
            Box::leak(Box::new(engine));
            return;
        }
        let report = bounded("shutdown", move || engine.shutdown(Duration::from_secs(5)));
        self.check(&report);
    }
}

/// Runs what may hang on a thread of its own, and fails when it does.
pub fn bounded<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(run()));
    match result.recv_timeout(crate::trace::patience() * 2) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} does not come to an end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().err().unwrap_or_else(|| Box::new("it sent nothing")))
        }
    }
}

/// Does what handlers do by default: closes at the peer's end and at shutdown, aborts at the deadline.
pub fn by_default(socket: &mut Socket<'_>, event: Event) {
    match event {
        Event::PeerClosed | Event::Shutdown => socket.close(),
        Event::Timeout => socket.abort(),
        Event::Open
        | Event::Receive
        | Event::Writable
        | Event::Sent
        | Event::Message(_)
        | Event::Refused(_)
        | Event::Close(_) => {}
    }
}

/// Sends back as much as there is room for.
pub fn echo(socket: &mut Socket<'_>) {
    let (mut input, mut output) = socket.stream.split();
    let taken = output.send_some(input.bytes());
    input.consume(taken);
}

/// A script that sends everything back, also when the peer has ended meanwhile.
pub fn echoing(socket: &mut Socket<'_>, event: Event, _: &mut Context<'_>) {
    match event {
        Event::Receive | Event::Writable => {
            echo(socket);
            if socket.peer_closed() && socket.bytes().is_empty() {
                socket.close();
            }
        }
        Event::PeerClosed if !socket.bytes().is_empty() => {}
        other => by_default(socket, other),
    }
}

/// Consumes everything that is there.
pub fn consume_all(socket: &mut Socket<'_>) {
    let there = socket.bytes().len();
    socket.consume(there);
}
