//! The events of a poller: its start, its timers, its stop.

use core::time::Duration;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};

use lightcone_core::{
    Address, Backoff, CloseReason, Context, ContractChecker, ErrorKind, Event, Handler, Origin, PollerEvent,
    PollerId, Socket, TimerError, TimerId,
};
use lightcone_unix::driver::Driver;
use lightcone_unix::{Builder, Engine};

use crate::case::{bounded, small};
use crate::peer::Peer;
use crate::trace::patience;

/// How late an event may be on a machine that is busy with other tests.
const LATE_MS: u64 = 2_000;

/// A callback: its poller, its name, its time in milliseconds, and the tag of a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    poller: PollerId,
    name: &'static str,
    at_ms: u64,
    tag: u64,
}

type Act = fn(&mut Context<'_, ()>, &PollerEvent);

/// A handler that reports every callback, and runs the script in those of the poller.
struct Reporter {
    poller: PollerId,
    records: Sender<Record>,
    act: Act,
}

impl Reporter {
    fn report(&self, name: &'static str, at_ms: u64, tag: u64) {
        // the test may have seen enough
        let _ = self.records.send(Record { poller: self.poller, name, at_ms, tag });
    }
}

impl Handler for Reporter {
    type Data = ();
    type Message = ();

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        self.report("admit", 0, 0);
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<()>, cx: &mut Context<'_, ()>) {
        self.report(event.name(), cx.now().as_millis(), 0);
        match event {
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, ()>) {
        let tag = if let PollerEvent::Timer { tag, .. } = event { tag } else { 0 };
        self.report(event.name(), cx.now().as_millis(), tag);
        (self.act)(cx, &event);
    }
}

fn start<D: Driver>(builder: Builder<D>, act: Act) -> (Engine<()>, Receiver<Record>) {
    let (sender, records) = channel();
    let engine = builder.start(move |poller| {
        ContractChecker::new(Reporter { poller: poller.id(), records: sender.clone(), act })
    });
    (engine.unwrap(), records)
}

fn next(records: &Receiver<Record>) -> Record {
    records.recv_timeout(patience()).unwrap()
}

/// The first callback of each poller is `started`, and `stopping` comes before the `shutdown` of its sockets.
pub fn started_is_first_and_stopping_before_shutdown<D: Driver>() {
    let (engine, records) = start(small::<D>().pollers(3), |_, _| {});
    let mut started: Vec<_> = (0..3).map(|_| next(&records)).collect();
    started.sort_by_key(|record| record.poller);
    let pollers: Vec<_> = started.iter().map(|record| (record.name, record.poller.0)).collect();
    assert_eq!(pollers, [("started", 0), ("started", 1), ("started", 2)], "without any connection");
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let peers: Vec<_> = (0..6).map(|_| Peer::connect(listener.endpoint())).collect();
    let opened = (0..).map(|_| next(&records)).filter(|record| record.name == "open").take(6).count();
    assert_eq!(opened, 6);
    bounded("shutdown", move || engine.shutdown(Duration::from_secs(5)));
    drop(peers);
    let rest: Vec<_> = records.try_iter().collect();
    for poller in 0..3 {
        let names: Vec<_> =
            rest.iter().filter(|record| record.poller.0 == poller).map(|record| record.name).collect();
        assert_eq!(names.first(), Some(&"stopping"), "of poller {poller}: {names:?}");
        assert_eq!(names.iter().filter(|name| **name == "stopping").count(), 1);
        assert_eq!(names.iter().filter(|name| **name == "shutdown").count(), 2);
        assert_eq!(names.last(), Some(&"close"));
    }
}

/// An engine that is stopped at once still calls both, in order.
pub fn an_engine_that_stops_at_once_has_started<D: Driver>() {
    for _ in 0..20 {
        let (engine, records) = start(small::<D>().pollers(2), |_, _| {});
        bounded("shutdown", move || engine.shutdown(Duration::ZERO));
        let all: Vec<_> = records.iter().collect();
        for poller in 0..2 {
            let names: Vec<_> =
                all.iter().filter(|record| record.poller.0 == poller).map(|record| record.name).collect();
            assert_eq!(names, ["started", "stopping"]);
        }
    }
}

/// Timers fire without any socket, in the order of their times, never early, and not after a cancel.
pub fn timers_fire_on_time_without_sockets<D: Driver>() {
    let (engine, records) = start(small::<D>().timers(4), |cx, event| {
        if *event == PollerEvent::Started {
            for tag in [90, 30, 60] {
                assert!(cx.set_timer(cx.now() + Duration::from_millis(tag), tag).is_ok());
            }
            let cancelled = cx.set_timer(cx.now() + Duration::from_millis(45), 45).unwrap();
            assert_eq!(cx.set_timer(cx.now(), 0), Err(TimerError::Full));
            assert!(cx.cancel_timer(cancelled));
        }
    });
    let start = next(&records);
    for tag in [30, 60, 90] {
        let timer = next(&records);
        assert_eq!((timer.name, timer.tag), ("timer", tag));
        let after = timer.at_ms - start.at_ms;
        assert!((tag..tag + LATE_MS).contains(&after), "a timer of {tag} ms after {after} ms");
    }
    bounded("shutdown", move || engine.shutdown(Duration::ZERO));
    assert_eq!(next(&records).name, "stopping");
}

/// A timer that is far ahead does not keep an engine from ending.
pub fn a_timer_does_not_delay_a_stop<D: Driver>() {
    let (engine, records) = start(small::<D>(), |cx, _| {
        assert!(cx.set_timer(cx.now() + Duration::from_secs(1_000), 0).is_ok());
    });
    assert_eq!(next(&records).name, "started");
    bounded("shutdown", move || engine.shutdown(Duration::from_secs(500)));
    assert_eq!(next(&records).name, "stopping");
}

/// Keeps a connection to a server: connects in `started`, and again after a while when it fails or ends.
struct Reconnecting {
    server: Address,
    backoff: Backoff,
    records: Sender<&'static str>,
}

impl Reconnecting {
    fn retry(&mut self, cx: &mut Context<'_, ()>) {
        let at = cx.now() + self.backoff.delay();
        assert!(cx.set_timer(at, 0).is_ok());
    }
}

impl Handler for Reconnecting {
    type Data = ();
    type Message = ();

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn started(&mut self, cx: &mut Context<'_, ()>) {
        self.timer(TimerId::from_bits(0), 0, cx);
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, ()>) {
        assert!(cx.connect(self.server, 0).is_ok());
    }

    fn open(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, ()>) {
        self.backoff.reset();
        let _ = self.records.send("open");
    }

    fn refused(&mut self, _: &mut Socket<'_, ()>, _: ErrorKind, cx: &mut Context<'_, ()>) {
        let _ = self.records.send("refused");
        self.retry(cx);
    }

    fn close(&mut self, socket: &mut Socket<'_, ()>, _: CloseReason, cx: &mut Context<'_, ()>) {
        let _ = self.records.send("close");
        if !socket.is_stopping() {
            self.retry(cx);
        }
    }
}

/// A handler alone connects when its engine starts, and again until its server is there.
pub fn a_handler_reconnects<D: Driver>() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    drop(server);
    let (sender, records) = channel();
    let engine = small::<D>().start(move |poller| {
        let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(50), poller.id().0.into());
        let records = sender.clone();
        ContractChecker::new(Reconnecting { server: Address::Inet(address), backoff, records })
    });
    let engine = engine.unwrap();
    let next = || records.recv_timeout(patience()).unwrap();
    for _ in 0..3 {
        assert_eq!(next(), "refused");
    }
    for _ in 0..2 {
        let server = TcpListener::bind(address).unwrap();
        let connection = server.accept().unwrap();
        assert_eq!((0..).map(|_| next()).find(|name| *name != "refused"), Some("open"));
        drop(server);
        drop(connection);
        assert_eq!(next(), "close");
        assert_eq!(next(), "refused");
    }
    bounded("shutdown", move || engine.shutdown(Duration::ZERO));
}
