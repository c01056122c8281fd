//! What peers do that are slow, impatient, silent or gone.

use core::convert::Infallible;
use core::time::Duration;

use crate::wire::{Answers, Clients, Echo, End, SERVER, interface, received, run, wire};
use lightcone_core::poller::Alone;
use lightcone_core::{
    Address, CloseReason, Config, Context, ContractChecker, ErrorKind, Handler, Instant, ListenerId, Origin,
    Socket, Timeout, Timeouts,
};
use lightcone_http::Http;
use lightcone_smoltcp::smoltcp::socket::tcp::State;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

const CONFIG: Config = Config {
    sockets: 2,
    block_size: 512,
    input_blocks: 2,
    output_blocks: 8,
    receive_blocks: 0,
    ..Config::DEVICE
};
const START: Instant = Instant::from_millis(0);
type Memory<'s, T> = StackMemory<'s, T, { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>;
type Server<'s, H> = Stack<'s, ContractChecker<H>, End>;

/// Runs a test with a handler on a stack of two sockets that listens on port 7, and a host of clients.
fn with<H: Handler>(
    timeouts: Timeouts,
    handler: H,
    test: impl FnOnce(&mut Server<'_, H>, &mut Clients<End>),
) {
    let (mut device, there) = wire();
    let mut memory = Memory::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let config = Config { timeouts, ..CONFIG };
    let handler = ContractChecker::new(handler);
    let mut stack: Server<'_, H> = Stack::new(&mut memory, &config, uplink, handler, Alone, START).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    test(&mut stack, &mut Clients::new(there, 16));
}

fn until(millis: u64) -> impl FnMut(&mut Clients<End>, Instant) -> bool {
    move |_, now| now >= Instant::from_millis(millis)
}

#[test]
fn a_request_may_be_cut_at_every_byte() {
    let request = b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for cut in 1..request.len() {
        let api = Http::new().get("/foo", |_request, response| response.text("bar"));
        with(Timeouts::DEFAULT, api, |stack, clients| {
            let client = clients.socket(1024, 1024);
            clients.connect(client, 7);
            let (mut sent, mut answer) = (0, Vec::new());
            run(stack, clients, START, |clients, now| {
                let socket = clients.of(client);
                if socket.can_send() && sent == 0 {
                    sent = socket.send_slice(&request[..cut]).unwrap();
                } else if sent == cut && now >= Instant::from_millis(500) {
                    sent += socket.send_slice(&request[cut..]).unwrap();
                }
                answer.extend(received(socket));
                socket.state() == State::CloseWait || now > Instant::from_millis(3_000)
            });
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("bar"),
                "cut at {cut}: {answer}"
            );
        });
    }
}

#[test]
fn a_thousand_connections_in_a_row_are_served() {
    with(Timeouts::DEFAULT, Echo::default(), |stack, clients| {
        let client = clients.socket(256, 256);
        let mut now = START;
        for n in 0..1_000 {
            clients.connect(client, 7);
            let (mut sent, mut back) = (false, Vec::new());
            now = run(stack, clients, now, |clients, _| {
                let socket = clients.of(client);
                if socket.can_send() && !sent {
                    sent = true;
                    socket.send_slice(b"echo").unwrap();
                }
                back.extend(received(socket));
                if back == b"echo" {
                    socket.close();
                }
                matches!(socket.state(), State::TimeWait | State::Closed)
            });
            assert_eq!(back, b"echo", "connection {n}");
            clients.of(client).abort(); // does not wait for the end of TIME-WAIT
        }
        assert_eq!(stack.poller().handler().inner().closed, [CloseReason::Peer; 1_000]);
        assert!(now < Instant::from_millis(60_000), "took until {now:?}");
    });
}

/// The stack closes first, so that each of its two sockets would be in TIME-WAIT for 10 seconds.
fn connections_that_the_stack_closes(same_port: bool) {
    let api = Http::new().get("/foo", |_request, response| response.text("bar"));
    with(Timeouts::DEFAULT, api, |stack, clients| {
        let client = clients.socket(1024, 256);
        let mut now = START;
        for n in 0..100 {
            if same_port {
                clients.last_port = 50_000;
            }
            clients.connect(client, 7);
            let (mut sent, mut answer) = (false, Vec::new());
            now = run(stack, clients, now, |clients, _| {
                let socket = clients.of(client);
                if socket.can_send() && !sent {
                    sent = true;
                    socket.send_slice(b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
                }
                answer.extend(received(socket));
                if socket.state() == State::CloseWait {
                    socket.close();
                }
                socket.state() == State::Closed
            });
            assert!(answer.ends_with(b"bar"), "connection {n}");
        }
        assert!(now < Instant::from_millis(10_000), "took until {now:?}");
    });
}

#[test]
fn time_wait_does_not_keep_connections_waiting() {
    connections_that_the_stack_closes(false);
}

#[test]
fn a_port_is_used_again_before_the_end_of_time_wait() {
    connections_that_the_stack_closes(true);
}

#[test]
fn a_peer_that_vanishes_makes_room() {
    let timeouts = Timeouts { idle: Some(Duration::from_secs(20)), ..Timeouts::DEFAULT };
    with(timeouts, Echo::default(), |stack, clients| {
        let gone: Vec<_> = (0..2).map(|_| clients.socket(256, 256)).collect();
        for client in &gone {
            clients.connect(*client, 7);
        }
        let mut sent = [false; 2];
        let now = run(stack, clients, START, |clients, _| {
            for (client, sent) in gone.iter().zip(&mut sent) {
                let socket = clients.of(*client);
                if socket.can_send() && !*sent {
                    *sent = true;
                    socket.send_slice(b"echo").unwrap();
                }
            }
            gone.iter().all(|client| clients.of(*client).can_recv())
        });
        assert_eq!(stack.poller().shard().in_use(), 2);
        clients.device.cut(true);
        let now = run(stack, clients, now, until(20_100));
        assert!(now >= Instant::from_millis(20_100));
        let idle = CloseReason::TimedOut(Timeout::Idle);
        assert_eq!(stack.poller().handler().inner().closed, [idle, idle]);
        // the sockets of the pool still try to deliver the last bytes, but make room soon for connections that wait
        clients.device.cut(false);
        for client in gone {
            clients.sockets.remove(client);
        }
        let mut answers = Answers::ask(clients, 2, 7, b"next");
        let now = run(stack, clients, now, |clients, now| {
            answers.look(clients, now);
            answers.count() == 2
        });
        assert_eq!(answers.count(), 2);
        assert!(now < Instant::from_millis(26_000), "answered at {now:?}");
    });
}

/// Sends as much as it can, for as long as it can.
struct Flood;

impl Handler for Flood {
    type Data = Option<CloseReason>;
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Self::Data> {
        Some(None)
    }

    fn open(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Infallible>) {
        self.writable(socket, cx);
    }

    fn writable(&mut self, socket: &mut Socket<'_, Self::Data>, _: &mut Context<'_, Infallible>) {
        let (_, mut output) = socket.stream.split();
        while output.send_some(&[b'x'; 512]) == 512 {}
    }
}

#[test]
fn a_peer_that_reads_slowly_is_kept_and_one_that_stops_is_not() {
    let timeouts =
        Timeouts { first_byte: None, write_stall: Some(Duration::from_secs(5)), ..Timeouts::DEFAULT };
    with(timeouts, Flood, |stack, clients| {
        let client = clients.socket(512, 64);
        clients.connect(client, 7);
        // 100 bytes every two seconds: the ring of 1 KiB stays full, and the bytes that leave it are progress
        let (mut got, mut next) = (0, 0);
        let mut slowly = |clients: &mut Clients<End>, now: Instant| {
            let socket = clients.of(client);
            if now.as_millis() >= next {
                next = now.as_millis() + 2_000;
                got += socket.recv(|bytes| (bytes.len().min(100), bytes.len().min(100))).unwrap_or(0);
            }
            now >= Instant::from_millis(60_000)
        };
        let mut now = START;
        while !slowly(clients, now) {
            stack.poll(now);
            clients.poll(now);
            now += Duration::from_millis(10);
        }
        assert_eq!(stack.poller().shard().in_use(), 1, "cut off after {got} bytes");
        assert!(got > 2_000, "{got}");
        run(stack, clients, now, until(80_000));
        assert_eq!(stack.poller().shard().in_use(), 0, "a peer that reads nothing is still there");
    });
}

/// Does not read until a certain time.
struct Pauses {
    until: Instant,
    received: usize,
    ended: bool,
    reason: Option<CloseReason>,
    finishes: bool,
}

impl Handler for Pauses {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.stream.pause();
        socket.stream.set_active(true);
        socket.stream.set_deadline(Some(self.until));
        if self.finishes {
            socket.stream.finish();
        }
    }

    fn timeout(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.stream.resume();
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        self.received += socket.stream.bytes().len();
        socket.stream.consume_all();
    }

    fn peer_closed(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        self.ended = true;
        socket.stream.close();
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Infallible>) {
        self.reason = Some(reason);
    }
}

impl Pauses {
    fn until(millis: u64, finishes: bool) -> Self {
        let until = Instant::from_millis(millis);
        Self { until, received: 0, ended: false, reason: None, finishes }
    }
}

#[test]
fn a_socket_that_is_not_read_closes_the_window() {
    with(Timeouts::NONE, Pauses::until(10_000, false), |stack, clients| {
        let client = clients.socket(64, 8_192);
        clients.connect(client, 7);
        let mut sent = 0;
        let now = run(stack, clients, START, |clients, now| {
            let socket = clients.of(client);
            if socket.can_send() && sent == 0 {
                sent = socket.send_slice(&[7; 5_000]).unwrap();
            }
            now >= Instant::from_millis(9_000)
        });
        assert_eq!(stack.poller().handler().inner().received, 0);
        assert_eq!(clients.of(client).send_queue(), sent - 1024, "more than the window was taken");
        run(stack, clients, now, |clients, now| {
            let socket = clients.of(client);
            if socket.send_queue() == 0 {
                socket.close();
            }
            now >= Instant::from_millis(60_000)
        });
        let handler = stack.poller().handler().inner();
        assert_eq!((handler.received, handler.ended), (5_000, true));
        assert_eq!(handler.reason, Some(CloseReason::Peer));
    });
}

/// smoltcp discards what is unread when a connection has been over for ten seconds.
#[test]
fn bytes_that_are_lost_unread_are_not_taken_for_the_end() {
    let lost = CloseReason::Error(ErrorKind::ConnectionAborted);
    for (wakes, received, reason) in [(5_000, 600, CloseReason::Local), (15_000, 0, lost)] {
        with(Timeouts::NONE, Pauses::until(wakes, true), |stack, clients| {
            let client = clients.socket(64, 1_024);
            clients.connect(client, 7);
            let mut sent = 0;
            run(stack, clients, START, |clients, now| {
                let socket = clients.of(client);
                if socket.can_send() && sent == 0 {
                    sent = socket.send_slice(&[7; 600]).unwrap();
                    socket.close();
                }
                now >= Instant::from_millis(20_000)
            });
            let handler = stack.poller().handler().inner();
            assert_eq!((handler.received, handler.reason), (received, Some(reason)), "read after {wakes} ms");
        });
    }
}

#[test]
fn a_port_without_a_listener_refuses() {
    with(Timeouts::DEFAULT, Echo::default(), |stack, clients| {
        let client = clients.socket(64, 64);
        clients.connect(client, 8);
        let now = run(stack, clients, START, |clients, _| clients.of(client).state() == State::Closed);
        assert!(now < Instant::from_millis(100), "refused at {now:?}");
    });
}

#[test]
fn a_stopped_stack_is_over_when_its_peers_know() {
    with(Timeouts::DEFAULT, Echo::default(), |stack, clients| {
        let client = clients.socket(64, 64);
        clients.connect(client, 7);
        let now = run(stack, clients, START, |clients, _| clients.of(client).may_send());
        let now = run(stack, clients, now, until(100));
        stack.poller_mut().stop(Duration::from_secs(1));
        assert!(!stack.is_over());
        let now = run(stack, clients, now, until(1_500));
        assert!(stack.is_over());
        assert!(!clients.of(client).may_recv(), "the peer does not know");
        let late = clients.socket(64, 64);
        clients.connect(late, 7);
        run(stack, clients, now, |clients, _| clients.of(late).state() == State::Closed);
        assert_eq!(clients.of(late).state(), State::Closed, "a connection is accepted after the end");
    });
}

/// Sends a word, and closes.
struct TurnsAway;

impl Handler for TurnsAway {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.stream.send(b"bye").unwrap();
        socket.stream.close();
    }
}

#[test]
fn what_a_peer_sends_after_the_end_is_discarded() {
    with(Timeouts::DEFAULT, TurnsAway, |stack, clients| {
        let client = clients.socket(64, 8_192);
        clients.connect(client, 7);
        let mut sent = 0;
        let now = run(stack, clients, START, |clients, now| {
            let socket = clients.of(client);
            if now >= Instant::from_millis(5_000) && sent == 0 {
                sent = socket.send_slice(&[7; 5_000]).unwrap();
                socket.close();
            }
            socket.state() == State::Closed || now > Instant::from_millis(20_000)
        });
        assert_eq!((sent, clients.of(client).send_queue()), (5_000, 0), "not all was taken");
        assert!(now < Instant::from_millis(8_000), "ended at {now:?}");
    });
}

#[test]
fn peers_that_do_not_close_make_room() {
    with(Timeouts::DEFAULT, TurnsAway, |stack, clients| {
        let ended = |clients: &mut Clients<End>, client| {
            received(clients.of(client));
            clients.of(client).state() == State::CloseWait
        };
        let mut now = START;
        for (n, most) in [(0, 100), (1, 100), (2, 2_500)] {
            let client = clients.socket(64, 64);
            clients.connect(client, 7);
            let end = run(stack, clients, now, |clients, _| ended(clients, client));
            assert!(end - now < Duration::from_millis(most), "client {n} was served after {:?}", end - now);
            now = end;
        }
    });
}
