//! An engine whose handlers run on workers, its clients, and the checks at the end.

use core::sync::atomic::{AtomicIsize, Ordering};
use core::time::Duration;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use lightcone::{Builder, Engine, Handle, Listener};
use lightcone_core::{Address, Context, ContractChecker, Event, Handler, Origin, Socket};
use lightcone_tests::streams::{WAIT, bounded};
use lightcone_workers::{Builder as WorkersBuilder, Offloaded, Report, Workers};

/// A handler under the contract checker, which reports at its end how many sockets are alive: over all workers, none.
pub(crate) struct Tally<H: Handler> {
    checker: ContractChecker<H>,
    alive: Arc<AtomicIsize>,
}

impl<H: Handler> Drop for Tally<H> {
    fn drop(&mut self) {
        self.alive.fetch_add(self.checker.alive(), Ordering::Relaxed);
    }
}

impl<H: Handler> Handler for Tally<H> {
    type Data = <ContractChecker<H> as Handler>::Data;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        self.checker.admit(origin, peer)
    }

    fn wants_sent(&self) -> bool {
        self.checker.wants_sent()
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        self.checker.event(socket, event, cx);
    }
}

/// An engine, its workers and a listener.
pub(crate) struct Rig<M: Send + 'static> {
    engine: Option<Engine<Offloaded<M>>>,
    workers: Option<Workers<M>>,
    listener: Listener<Offloaded<M>>,
    alive: Arc<AtomicIsize>,
}

/// Returns a builder for a small engine with one poller.
pub(crate) fn engine() -> Builder {
    Builder::new().pollers(1).sockets(1_024)
}

/// Returns a builder for this number of workers.
pub(crate) fn workers(count: usize) -> WorkersBuilder {
    WorkersBuilder::new().workers(count)
}

impl<M: Send + 'static> Rig<M> {
    pub(crate) fn start<H>(
        engine: Builder,
        workers: WorkersBuilder,
        make: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Self
    where
        H: Handler<Data: Send, Message = M> + 'static,
    {
        let alive = Arc::new(AtomicIsize::new(0));
        let shared = Arc::clone(&alive);
        let workers = workers
            .start(move |worker| Tally {
                checker: ContractChecker::new(make(worker)),
                alive: Arc::clone(&shared),
            })
            .unwrap();
        let engine = engine.start(workers.offload()).unwrap();
        let listener = engine.listen("127.0.0.1:0").unwrap();
        Self { engine: Some(engine), workers: Some(workers), listener, alive }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = bounded(TcpStream::connect(self.listener.endpoint().as_inet().unwrap()).unwrap());
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) fn handle(&self) -> Handle<Offloaded<M>> {
        self.engine.as_ref().unwrap().handle()
    }

    pub(crate) fn report(&self) -> Report {
        self.workers.as_ref().unwrap().report()
    }

    /// Waits until the report of the workers satisfies a condition.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Report) -> bool) {
        wait_until(what, || condition(&self.report()));
    }

    /// Takes the engine out, for a shutdown by the test.
    pub(crate) fn take_engine(&mut self) -> Engine<Offloaded<M>> {
        self.engine.take().unwrap()
    }

    /// Takes the workers out.
    pub(crate) fn take_workers(&mut self) -> Workers<M> {
        self.workers.take().unwrap()
    }

    /// Shuts the workers down with a grace time beyond the test's own limit: they must end when their sockets have
    /// ended, without waiting for the timeout.
    pub(crate) fn end_workers(&mut self) -> Report {
        let workers = self.take_workers();
        let (told, report) = channel();
        let end = move || told.send(workers.shutdown(120 * WAIT));
        thread::Builder::new().spawn(end).unwrap();
        report.recv_timeout(WAIT).unwrap()
    }

    /// Shuts everything down cleanly. Checks that every admitted socket has had its last callback, and that only the
    /// expected panics occurred.
    pub(crate) fn stop(mut self, panics: u64) -> Report {
        let engine = self.take_engine().shutdown(WAIT);
        assert_eq!(engine.panics(), 0, "{engine}");
        let report = self.end_workers();
        self.check(&report, panics);
        assert_eq!(report.aborted, 0, "{report}");
        report
    }

    /// Checks what must hold after every test.
    pub(crate) fn check(&self, report: &Report, panics: u64) {
        assert_eq!(report.panics, panics, "{report}");
        assert_eq!((report.unfinished, report.stuck, report.unnotified), (0, 0, 0), "{report}");
        assert_eq!(report.opened, report.closed, "{report}");
        assert_eq!(self.alive.load(Ordering::Relaxed), 0, "sockets without their last event");
    }
}

/// Waits for a condition, with a time limit.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..WAIT.as_millis() {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("timed out waiting for {what}");
}

/// Blocks callers until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Barrier(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Barrier {
    pub(crate) fn pass(&self) {
        let (lock, condvar) = &*self.0;
        let mut state = lock.lock().unwrap();
        state.1 += 1;
        condvar.notify_all();
        drop(condvar.wait_timeout_while(state, WAIT, |state| !state.0).unwrap());
    }

    pub(crate) fn open(&self) {
        let (lock, condvar) = &*self.0;
        lock.lock().unwrap().0 = true;
        condvar.notify_all();
    }

    /// Waits until this many callers have arrived.
    pub(crate) fn wait_for(&self, waiting: usize) {
        let (lock, condvar) = &*self.0;
        let state = lock.lock().unwrap();
        let (state, _) = condvar.wait_timeout_while(state, WAIT, |state| state.1 < waiting).unwrap();
        assert!(state.1 >= waiting, "only {} arrived", state.1);
    }
}

/// Sends the input back, as far as there is room.
pub(crate) fn echo<D>(socket: &mut Socket<'_, D>) {
    let (mut input, mut output) = socket.stream.split();
    let taken = output.send_some(input.bytes());
    input.consume(taken);
}

/// Sends all input back, even after the peer's end of stream.
pub(crate) struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<u64>, _: &mut Context<'_, u64>) {
        match event {
            Event::Receive | Event::Writable => {
                echo(socket);
                if socket.peer_closed() && socket.bytes().is_empty() {
                    socket.close();
                }
            }
            Event::PeerClosed if !socket.bytes().is_empty() => {}
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}
