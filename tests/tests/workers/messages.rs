//! Tests of messages to and from sockets on workers, and of full mailboxes.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use lightcone_core::{Address, ConnectError, Context, Event, Handler, Origin, Rejected, Socket, Token};

use crate::rig::{Barrier, Echo, Rig, echo, engine, wait_until, workers};
use lightcone_tests::streams::{WAIT, exchange, pattern, read};

/// Reports its token when it opens, and sends the number of each message; posts each number from its peer to `to`.
#[derive(Clone)]
struct Member {
    opened: Sender<Token>,
    to: Arc<Mutex<Option<Token>>>,
}

impl Handler for Member {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<u64>, cx: &mut Context<'_, u64>) {
        match event {
            Event::Open => {
                let token = socket.token();
                assert!(cx.local_address(token).is_some());
                assert_eq!(token.poller(), cx.poller());
                assert_eq!(cx.connect(socket.peer(), 1), Err(ConnectError::Unsupported));
                self.opened.send(token).unwrap();
            }
            Event::Message(number) => socket.send(&number.to_be_bytes()).unwrap(),
            Event::Receive => {
                while let Some(number) = socket.bytes().first_chunk().copied() {
                    socket.consume(8);
                    let number = u64::from_be_bytes(number);
                    match *self.to.lock().unwrap() {
                        Some(to) => cx.post(to, number).unwrap(),
                        None => cx.broadcast(number).unwrap(),
                    }
                }
            }
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

#[test]
fn messages_keep_their_order() {
    let (opened, tokens) = channel();
    let member = Mutex::new(Member { opened, to: Arc::default() });
    let rig = Rig::start(engine().pollers(2), workers(4), move |_| member.lock().unwrap().clone());
    let streams: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let tokens: Vec<_> = (0..4).map(|_| tokens.recv_timeout(WAIT).unwrap()).collect();
    let handle = rig.handle();
    let lost = || rig.report().lost_messages;
    for number in 0..1_000_u64 {
        for token in &tokens {
            handle.post(*token, number.into()).unwrap();
        }
        // No more in transit than a socket may have waiting.
        if number % 100 == 99 {
            streams.iter().for_each(|stream| {
                for expected in number - 99..=number {
                    assert_eq!(read(stream, 8), expected.to_be_bytes());
                }
            });
        }
    }
    assert_eq!(lost(), 0);
    rig.stop(0);
}

#[test]
fn workers_post_to_sockets_by_their_tokens() {
    let (opened, tokens) = channel();
    let to = Arc::new(Mutex::new(None));
    let member = Mutex::new(Member { opened, to: Arc::clone(&to) });
    let rig = Rig::start(engine().pollers(2), workers(2), move |_| member.lock().unwrap().clone());
    let mut one = rig.connect();
    let first = tokens.recv_timeout(WAIT).unwrap();
    let mut other = rig.connect();
    tokens.recv_timeout(WAIT).unwrap();
    // To one socket.
    *to.lock().unwrap() = Some(first);
    other.write_all(&7_u64.to_be_bytes()).unwrap();
    assert_eq!(read(&one, 8), 7_u64.to_be_bytes());
    // To itself.
    one.write_all(&8_u64.to_be_bytes()).unwrap();
    assert_eq!(read(&one, 8), 8_u64.to_be_bytes());
    // To all sockets.
    *to.lock().unwrap() = None;
    one.write_all(&9_u64.to_be_bytes()).unwrap();
    for stream in [&one, &other] {
        assert_eq!(read(stream, 8), 9_u64.to_be_bytes());
    }
    // To a closed socket: no other socket receives it.
    drop(one);
    rig.wait_for("the end of the first socket", |report| report.closed == 1);
    *to.lock().unwrap() = Some(first);
    other.write_all(&10_u64.to_be_bytes()).unwrap();
    wait_until("the message being dropped", || {
        rig.handle().stats().iter().map(|poller| poller.gone).sum::<u64>() > 0
    });
    rig.stop(0);
}

/// Reports its token, blocks at its first message, and sends a byte per message.
#[derive(Clone)]
struct Slow(Barrier, Sender<Token>);

impl Handler for Slow {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<u64>, _: &mut Context<'_, u64>) {
        match event {
            Event::Open => self.1.send(socket.token()).unwrap(),
            Event::Message(number) => {
                if number == 0 {
                    self.0.pass();
                }
                socket.send(&[1]).unwrap();
            }
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

#[test]
fn messages_beyond_the_bound_are_dropped_and_counted() {
    let barrier = Barrier::default();
    let (opened, tokens) = channel();
    let slow = Mutex::new(Slow(barrier.clone(), opened));
    let rig = Rig::start(engine(), workers(1).messages(5), move |_| slow.lock().unwrap().clone());
    let stream = rig.connect();
    let token = tokens.recv_timeout(WAIT).unwrap();
    rig.handle().post(token, 0.into()).unwrap();
    barrier.wait_for(1);
    for number in 1..=8_u64 {
        rig.handle().post(token, number.into()).unwrap();
    }
    rig.wait_for("three excess messages", |report| report.lost_messages == 3);
    barrier.open();
    assert_eq!(read(&stream, 6), [1; 6]);
    drop(stream);
    let report = rig.stop(0);
    assert_eq!(report.lost_messages, 3);
}

/// Panics when it is dropped, unless a handler has disarmed it.
struct Bomb {
    armed: bool,
    blocks: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.armed, "as asked");
    }
}

/// Blocks and then aborts at a message that demands it; sends a byte for each other message.
#[derive(Clone)]
struct Disposal(Barrier, Sender<Token>);

impl Handler for Disposal {
    type Data = ();
    type Message = Bomb;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<Bomb>, _: &mut Context<'_, Bomb>) {
        match event {
            Event::Open => self.1.send(socket.token()).unwrap(),
            Event::Message(mut bomb) => {
                bomb.armed = false;
                if bomb.blocks {
                    self.0.pass();
                    socket.abort();
                } else {
                    socket.send(&[1]).unwrap();
                }
            }
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

/// Each message is dropped separately, so that a second panic does not occur while the first one unwinds.
#[test]
fn late_messages_that_panic_when_dropped_are_survived() {
    let barrier = Barrier::default();
    let (opened, tokens) = channel();
    let disposal = Mutex::new(Disposal(barrier.clone(), opened));
    let rig = Rig::start(engine(), workers(2), move |_| disposal.lock().unwrap().clone());
    let post = |to, blocks| assert!(rig.handle().post(to, Bomb { armed: true, blocks }.into()).is_ok());
    let first = rig.connect();
    let ends = tokens.recv_timeout(WAIT).unwrap();
    let second = rig.connect();
    let answers = tokens.recv_timeout(WAIT).unwrap();
    post(ends, true);
    barrier.wait_for(1);
    (0..3).for_each(|_| post(ends, false));
    // Posted after them to the same mailbox.
    post(answers, false);
    assert_eq!(read(&second, 1), [1]);
    barrier.open();
    assert!(std::io::Read::read(&mut { &first }, &mut [0]).is_err());
    rig.wait_for("the late messages", |report| report.lost_messages == 3);
    drop((first, second));
    assert_eq!(rig.stop(3).closed, 2);
}

/// Workers notify a poller about output through its mailbox. While that is full they retry, and no output is lost.
#[test]
fn a_full_mailbox_loses_no_answer() {
    let rig = Rig::start(engine().mailbox(2), workers(4), |_| Echo);
    let streams: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    let (done, full) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // Keeps the mailbox full with messages for no socket.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let refused = rig.handle().post(Token::from_bits(1 << 40), 1.into());
                if matches!(refused, Err(Rejected::Full(_))) {
                    full.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
            }
        });
        let clients: Vec<_> = streams
            .iter()
            .map(|stream| {
                scope.spawn(move || {
                    let bytes = pattern(9, 1_000);
                    for _ in 0..30 {
                        assert!(exchange(stream, &bytes, bytes.len()) == bytes);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(|client| client.join().is_ok()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(|fine| *fine));
    });
    assert!(full.load(Ordering::Relaxed) > 0, "the mailbox was never full");
    drop(streams);
    rig.stop(0);
}

/// Reports how often a deadline has expired, and sets the next one; clears it permanently at the first byte from its
/// peer.
struct Patient;

impl Handler for Patient {
    /// How often the deadline has expired, and whether it was cleared.
    type Data = (u8, bool);
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<(u8, bool)> {
        Some((0, false))
    }

    fn event(&mut self, socket: &mut Socket<'_, (u8, bool)>, event: Event<u64>, cx: &mut Context<'_, u64>) {
        match event {
            Event::Open => socket.set_deadline(Some(cx.now() + Duration::from_millis(50))),
            Event::Receive => {
                echo(socket);
                // Cleared permanently: a deadline set before must not expire.
                socket.set_deadline(None);
                socket.data.1 = true;
            }
            Event::Timeout => {
                let (count, called_off) = &mut *socket.data;
                assert!(!*called_off, "a cleared deadline has expired");
                *count = *count % 99 + 1;
                let count = *count;
                socket.send(&[count]).unwrap();
                socket.set_deadline(Some(cx.now() + Duration::from_millis(10)));
            }
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

#[test]
fn deadlines_come_and_can_be_cancelled() {
    let rig = Rig::start(engine(), workers(2), |_| Patient);
    let hasty = rig.connect();
    (&hasty).write_all(b"x").unwrap();
    // Some deadlines may have expired before.
    while read(&hasty, 1) != b"x" {}
    // Those of another socket expire one after the other, however long that takes.
    let patient = rig.connect();
    assert_eq!(read(&patient, 5), [1, 2, 3, 4, 5]);
    assert_eq!(exchange(&hasty, b"y", 1), b"y");
    rig.stop(0);
}

#[test]
fn time_is_the_engines() {
    struct Clock(Sender<(u64, Option<u64>)>);
    impl Handler for Clock {
        type Data = ();
        type Message = u64;

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn receive(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, u64>) {
            assert_eq!(socket.now(), cx.now());
            echo(socket);
            self.0.send((cx.now().as_millis(), cx.unix_time())).unwrap();
        }
    }
    let (told, times) = channel();
    let told = Mutex::new(told);
    let rig = Rig::start(engine(), workers(2), move |_| Clock(told.lock().unwrap().clone()));
    let stream = rig.connect();
    let mut last = (0, None);
    for _ in 0..3 {
        exchange(&stream, b"x", 1);
        let time = times.recv_timeout(WAIT).unwrap();
        assert!(time.0 >= last.0 && time.1 >= last.1 && time.1 > Some(1_700_000_000));
        last = time;
        thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    rig.stop(0);
}

/// Always has a message waiting, once its peer has sent `m`.
struct Both;

impl Handler for Both {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<u64>, cx: &mut Context<'_, u64>) {
        match event {
            // It posts to itself forever.
            Event::Message(number) => cx.post(socket.token(), number).unwrap(),
            Event::Receive => {
                if socket.bytes().first() == Some(&b'm') {
                    socket.consume(1);
                    // More than one turn's worth, so that one is always waiting.
                    (0..40).for_each(|number| cx.post(socket.token(), number).unwrap());
                }
                echo(socket);
            }
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

/// Neither messages nor input can delay the other indefinitely, nor a shutdown.
#[test]
fn messages_without_end_put_off_neither_input_nor_shutdown() {
    let mut rig = Rig::start(engine(), workers(1), |_| Both);
    let stream = rig.connect();
    (&stream).write_all(b"m").unwrap();
    for _ in 0..20 {
        assert_eq!(exchange(&stream, b"x", 1), b"x");
    }
    let report = rig.take_engine().shutdown(WAIT);
    assert_eq!((report.drained(), report.aborted()), (1, 0), "{report}");
    let report = rig.end_workers();
    rig.check(&report, 0);
}

/// A peer that keeps sending does not delay the shutdown; its input up to that point is handled.
#[test]
fn input_without_end_does_not_put_off_the_shutdown() {
    let mut rig = Rig::start(engine(), workers(2), |_| Echo);
    let stream = rig.connect();
    assert_eq!(exchange(&stream, b"x", 1), b"x");
    let report = thread::scope(|scope| {
        scope.spawn(|| while { &stream }.write_all(&[1; 10_000]).is_ok() {});
        scope.spawn(|| {
            let mut buffer = vec![0; 65_536];
            while matches!(std::io::Read::read(&mut { &stream }, &mut buffer), Ok(1..)) {}
        });
        thread::sleep(Duration::from_millis(100));
        rig.take_engine().shutdown(WAIT)
    });
    assert_eq!((report.drained(), report.aborted()), (1, 0), "{report}");
    let report = rig.end_workers();
    rig.check(&report, 0);
}
