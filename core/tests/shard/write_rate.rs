//! The minimum rate of output: a peer that is fast enough stays, and one that is too slow goes in time.

use crate::common::{Bench, Data, PLAIN, ms};
use core::cell::Cell;
use core::time::Duration;
use lightcone_core::{
    Action, CloseReason, Config, Event, Interest, Socket, Timeout, Timeouts, Token, WriteRate,
};
use std::rc::Rc;

/// The length of a window in milliseconds.
const PER: u64 = 2_000;
/// 1000 bytes a second.
const RATE: WriteRate = WriteRate { bytes: 2_000, per: Duration::from_millis(PER) };
/// A check is at most this late: an eighth of the window, and what rounding adds in eight checks.
const LATE: u64 = PER / 8 + 20;

const ONLY: Timeouts = Timeouts { write_rate: Some(RATE), ..Timeouts::NONE };

/// Timeouts that a peer puts off by taking anything at all.
const PATIENT: Timeouts = Timeouts {
    idle: ms(7_000),
    write_stall: ms(4_000),
    drain: ms(4_000),
    linger: ms(500),
    write_rate: Some(RATE),
    ..Timeouts::NONE
};

const fn with(timeouts: Timeouts) -> Config {
    Config {
        sockets: 2,
        block_size: 1024,
        output_blocks: 64,
        output_limit: 32,
        receive_size: 2048,
        receive_blocks: 2,
        timeouts,
        ..PLAIN
    }
}

/// The system's send buffer.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    size: usize,
    /// Whether it reports what it has not delivered.
    reports: bool,
}

/// It is so large that it has no room for more within a window.
const LARGE: Kernel = Kernel { size: 30_000, reports: true };
const SMALL: Kernel = Kernel { size: 600, reports: true };
const MUTE: Kernel = Kernel { size: 600, reports: false };

/// A socket that has output, and a peer that takes it at its own rate.
struct Line {
    bench: Bench,
    token: Token,
    kernel: Kernel,
    /// What the system holds, shared with the bench.
    held: Rc<Cell<usize>>,
    interest: Interest,
    /// Thousandths of a byte that the peer has yet to take.
    fraction: u64,
    start: u64,
    /// Since when the system has taken no more, counted from `start`.
    full: Option<u64>,
    /// When the socket was closed, counted from `start`.
    closed: Option<u64>,
}

impl Line {
    fn new(
        start: u64,
        timeouts: Timeouts,
        kernel: Kernel,
        mut react: impl FnMut(&mut Socket<'_, Data>, Event<u32>) + 'static,
    ) -> Self {
        let mut bench = Bench::starting_at(start, &with(timeouts), move |socket, event| {
            let n = socket.bytes().len();
            socket.consume(n);
            react(socket, event);
        });
        let held = Rc::new(Cell::new(0));
        if kernel.reports {
            bench.shard.ask_undelivered();
            let held = held.clone();
            bench.undelivered = Box::new(move |_| Some(held.get()));
        }
        let token = bench.admit().unwrap();
        let next = bench.receive(token, b"x");
        let interest = Interest::NONE;
        let mut line =
            Self { bench, token, kernel, held, interest, fraction: 0, start, full: None, closed: None };
        line.carry_out(next);
        line
    }

    fn now(&self) -> u64 {
        self.bench.now - self.start
    }

    fn carry_out(&mut self, mut next: Action) {
        loop {
            next = match next {
                Action::Wait(interest) => {
                    self.interest = interest;
                    return;
                }
                Action::Send => {
                    let n = self.bench.outputs(self.token).len();
                    let sent = n.min(self.kernel.size - self.held.get());
                    self.held.set(self.held.get() + sent);
                    let token = self.token;
                    let (now, full) = (self.now(), sent < n);
                    if full {
                        self.full.get_or_insert(now);
                    }
                    self.bench.tell(token, |conn| {
                        if sent > 0 {
                            conn.sent(sent);
                        }
                        if full {
                            conn.would_block();
                        }
                    })
                }
                Action::ShutdownWrite => self.bench.tell(self.token, |conn| conn.write_shut_down()),
                Action::CancelSend => panic!("nothing is in flight"),
                Action::Close => {
                    self.closed = Some(self.now());
                    return;
                }
            };
        }
    }

    /// Lets the peer take output at this rate, in bytes a second, while the process does not run.
    fn suspend(&mut self, rate: usize, time: u64) {
        let n = rate * time as usize / 1_000;
        self.held.set(self.held.get().saturating_sub(n));
        self.bench.set_clock(self.bench.now + time);
        // events precede timers
        let next = self.bench.tell(self.token, |conn| conn.writable());
        self.carry_out(next);
    }

    /// Lets the peer take output at this rate, in bytes a second, for a time, or until the socket is closed.
    fn take(&mut self, rate: u64, time: u64) {
        let end = self.bench.now + time;
        while self.bench.now < end && self.closed.is_none() {
            self.fraction += rate;
            let n = ((self.fraction / 1_000) as usize).min(self.held.get());
            self.fraction %= 1_000;
            self.held.set(self.held.get() - n);
            let orders = self.bench.turn(self.bench.now + 1);
            for (token, next) in orders {
                assert_eq!(token, self.token);
                self.carry_out(next);
            }
            // as Linux does, which reports a socket when a third of its buffer is free
            let room = self.kernel.size - self.held.get();
            if self.closed.is_none() && self.interest.writes() && room >= self.kernel.size / 3 {
                let next = self.bench.tell(self.token, |conn| conn.writable());
                self.carry_out(next);
            }
        }
    }

    fn message(&mut self, message: u32) {
        let next = self.bench.message(self.token, message).expect("the socket has ended");
        self.carry_out(next);
    }

    #[track_caller]
    fn is_cut(&mut self, within: core::ops::RangeInclusive<u64>) {
        let at = self.closed.expect("the socket was never closed");
        assert!(within.contains(&at), "cut at {at} ms, not within {within:?}");
        assert_eq!(self.bench.last().event, Event::Close(CloseReason::TimedOut(Timeout::WriteRate)));
        assert!(self.bench.shard.needs_reset(), "the output was cut");
        self.bench.is_clean();
    }
}

/// Fills the queue whenever it can.
fn fills(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    if matches!(event, Event::Open | Event::Writable) {
        while socket.send(&[b'f'; 1_000]).is_ok() {}
        let (.., mut output, _) = socket.split();
        output.request_writable();
    }
    ends_at_a_message(socket, event);
}

/// Writes a piece when the last one has left, so the queue is empty again and again.
fn piecewise(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    if matches!(event, Event::Open | Event::Sent) {
        socket.send(&[b'p'; 100]).unwrap();
    }
    ends_at_a_message(socket, event);
}

fn ends_at_a_message(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    match event {
        Event::Message(1) => socket.close(),
        Event::Message(2) => socket.linger(),
        _ => {}
    }
}

type React = fn(&mut Socket<'_, Data>, Event<u32>);

/// All combinations of a kernel and a handler with which a peer can be slow.
fn each(mut test: impl FnMut(u64, Timeouts, Kernel, React)) {
    for kernel in [LARGE, SMALL, MUTE] {
        for react in [fills as React, piecewise] {
            for timeouts in [ONLY, PATIENT] {
                for start in [0, u64::from(u32::MAX) - 3_000] {
                    test(start, timeouts, kernel, react);
                }
            }
        }
    }
}

#[test]
fn a_peer_that_is_fast_enough_stays() {
    each(|start, timeouts, kernel, react| {
        let mut line = Line::new(start, timeouts, kernel, react);
        line.take(1_200, 60_000);
        assert_eq!(line.closed, None, "{kernel:?} {timeouts:?}");
        assert!(line.full.is_some(), "output never waited");
    });
}

#[test]
fn a_peer_that_is_too_slow_is_cut_off() {
    each(|start, timeouts, kernel, react| {
        for rate in [1, 100, 800] {
            let mut line = Line::new(start, timeouts, kernel, react);
            line.take(rate, 60_000);
            // at once if the buffer was full at once
            let full = line.full.unwrap();
            line.is_cut(full + PER..=full + PER + 2 * LATE);
        }
    });
}

/// Without a rate, the peer puts off all timeouts.
#[test]
fn without_a_rate_a_slow_peer_stays() {
    let mut line = Line::new(0, Timeouts { write_rate: None, ..PATIENT }, LARGE, fills);
    line.take(1, 60_000);
    assert_eq!(line.closed, None);
}

#[test]
fn a_peer_that_slows_down_is_cut_off() {
    each(|start, timeouts, kernel, react| {
        for fast in [3_100, 3_900, 5_000, 10_700] {
            let mut line = Line::new(start, timeouts, kernel, react);
            line.take(1_500, fast);
            assert_eq!(line.closed, None);
            line.take(700, 60_000);
            line.is_cut(fast..=fast + 2 * PER + 2 * LATE);
        }
    });
}

#[test]
fn a_peer_may_pause() {
    each(|start, timeouts, kernel, react| {
        let mut line = Line::new(start, timeouts, kernel, react);
        for _ in 0..10 {
            line.take(4_000, PER / 4);
            line.take(0, PER / 4);
            assert_eq!(line.closed, None, "{kernel:?}");
        }
        let since = line.now();
        line.take(0, 60_000);
        line.is_cut(since + PER / 2..=since + 2 * PER + 2 * LATE);
    });
}

/// A source that is slower than the rate is not the peer's fault.
#[test]
fn a_socket_that_has_nothing_to_send_is_not_slow() {
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        if matches!(event, Event::Open | Event::Timeout) {
            socket.send(&[b's'; 700]).unwrap(); // more than the buffer holds
            let due = socket.now() + Duration::from_millis(PER / 8);
            socket.set_deadline(Some(due));
        }
    };
    let slow = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        if matches!(event, Event::Open | Event::Timeout) {
            socket.send(&[b's'; 700]).unwrap();
            let due = socket.now() + Duration::from_millis(3 * PER);
            socket.set_deadline(Some(due));
        }
    };
    for kernel in [SMALL, MUTE] {
        let mut line = Line::new(0, ONLY, kernel, react);
        line.take(10_000, 30_000);
        assert_eq!(line.closed, None, "{kernel:?}");
        let mut line = Line::new(0, ONLY, kernel, slow);
        line.take(100_000, 60_000);
        assert_eq!(line.closed, None, "{kernel:?}");
    }
}

/// A process that was suspended has sent nothing that the peer could take.
#[test]
fn a_check_that_is_late_has_no_verdict() {
    for react in [fills as React, piecewise] {
        for before in [0, 3, 500, 1_300, 2_100] {
            for time in [PER, 3 * PER] {
                let mut line = Line::new(0, PATIENT, SMALL, react);
                line.take(1_500, 10_000 + before);
                line.suspend(1_500, time);
                line.take(1_500, 10_000);
                assert_eq!(line.closed, None, "{before} {time}");
                let since = line.now();
                line.take(700, 60_000);
                line.is_cut(since..=since + 2 * PER + 2 * LATE);
            }
        }
    }
}

/// A handler's deadlines share the timer: they must not hide how slow the peer is.
#[test]
fn deadlines_do_not_put_the_rate_off() {
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        fills(socket, event);
        if matches!(event, Event::Open | Event::Timeout) {
            let due = socket.now() + Duration::from_millis(7);
            socket.set_deadline(Some(due));
        }
    };
    for kernel in [LARGE, MUTE] {
        let mut line = Line::new(0, ONLY, kernel, react);
        line.take(1_300, 20_000);
        assert_eq!(line.closed, None);
        line.take(700, 20_000);
        line.is_cut(20_000..=20_000 + 2 * PER + 2 * LATE);
    }
}

/// A closed socket that still has queued output, with both kinds of a close.
#[test]
fn a_drain_has_the_rate() {
    for kernel in [LARGE, SMALL, MUTE] {
        for message in [1, 2] {
            let mut line = Line::new(0, PATIENT, kernel, fills);
            line.message(message);
            line.take(1_200, 20_000);
            assert_eq!(line.closed, None, "{kernel:?}");
            line.take(700, 60_000);
            line.is_cut(20_000..=20_000 + 2 * PER + 2 * LATE);
        }
    }
}

/// A staged close has sent everything, and the system has not delivered it.
#[test]
fn a_staged_close_has_the_rate() {
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        if event == Event::Open {
            for _ in 0..10 {
                socket.send(&[b'l'; 2_500]).unwrap();
            }
            socket.linger();
        }
    };
    let lingering = |rate, timeouts| {
        let mut line = Line::new(0, timeouts, LARGE, react);
        line.take(rate, 120_000);
        assert_eq!(line.bench.last().event, Event::Close(CloseReason::Local));
        assert!(!line.bench.shard.needs_reset(), "nothing was lost");
        line.closed.expect("the socket was never closed")
    };
    // The checks are one linger timeout apart, and the peer does not end its stream.
    let at = lingering(1_200, PATIENT);
    assert!((25_000 * 10 / 12..=25_000 * 10 / 12 + 1_100).contains(&at), "closed at {at} ms");
    let at = lingering(800, PATIENT);
    assert!((PER..=PER + 1_100).contains(&at), "closed at {at} ms");
    let at = lingering(800, Timeouts { linger: ms(1_000), ..PATIENT });
    assert!((PER..=PER + 2_100).contains(&at), "closed at {at} ms");
    // Once everything is delivered, only the linger timeout runs: here from the second check, before which the peer took
    // the last 200 bytes.
    let at = lingering(11_800, Timeouts { linger: ms(PER + 100), ..PATIENT });
    assert!((3 * PER + 300..=3 * PER + 320).contains(&at), "closed at {at} ms");
    let at = lingering(800, Timeouts { write_rate: None, ..PATIENT });
    assert!(at >= 25_000 * 10 / 8, "closed at {at} ms");
}

/// While a window runs, each send is counted, so the socket is not on the fast path.
#[test]
fn the_window_ends_with_the_output() {
    let mut line = Line::new(0, ONLY, SMALL, |socket, event| {
        if event == Event::Message(5) {
            socket.send(&[b'm'; 700]).unwrap();
        }
    });
    let token = line.token;
    let is_fast = |line: &mut Line| line.bench.shard.fast_path(token).is_some();
    assert!(is_fast(&mut line));
    assert_eq!(line.bench.shard.next_deadline(), None);
    line.message(5);
    assert!(!is_fast(&mut line), "stalled");
    line.take(0, PER / 4);
    line.take(10_000, 65); // the rest has been sent, but no check has found that
    assert!(line.interest == Interest::READ && !is_fast(&mut line), "a window runs");
    line.take(10_000, PER / 4);
    assert!(is_fast(&mut line));
    assert_eq!(line.bench.shard.next_deadline(), None, "a timer without a purpose");
}

#[test]
fn a_rate_costs_memory_only_where_it_is_set() {
    let without = with(Timeouts::DEFAULT);
    let rated = with(Timeouts { write_rate: Some(RATE), ..Timeouts::DEFAULT });
    assert_eq!(Timeouts::DEFAULT.write_rate, None);
    assert_eq!(rated.memory(), without.memory() + 12 * rated.sockets);
}

#[test]
fn a_rate_has_a_range() {
    let check = |bytes, per| {
        let timeouts = Timeouts { write_rate: Some(WriteRate { bytes, per }), ..Timeouts::NONE };
        with(timeouts).check().map_err(|error| error.to_string())
    };
    assert_eq!(check(1, Duration::from_millis(1)), Ok(()));
    assert_eq!(check(u32::MAX, Duration::from_secs(12 * 24 * 3_600)), Ok(()));
    assert_eq!(
        check(0, Duration::from_secs(1)).unwrap_err(),
        "timeouts.write_rate.bytes is 0; allowed: 1 or more"
    );
    assert_eq!(
        check(1, Duration::ZERO).unwrap_err(),
        "timeouts.write_rate.per is 0; allowed: more than 0, less than 12 days (1073741824 ms)"
    );
}
