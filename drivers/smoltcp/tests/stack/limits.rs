//! Both sides of each limit, and sockets of the pool that are held by nothing.

use core::time::Duration;

use lightcone_core::poller::Alone;
use lightcone_core::{Address, CloseReason, Config, ConnectError, ErrorKind, Instant, ListenerId};
use lightcone_smoltcp::smoltcp::socket::tcp::State;
use lightcone_smoltcp::{PORTS_MAX, Stack, StackMemory, Uplink};

use crate::wire::{Answers, CLIENTS, Clients, Echo, End, SERVER, interface, received, run, time, wire};

const START: Instant = Instant::from_millis(0);
const CONFIG: Config = Config {
    sockets: 2,
    block_size: 512,
    input_blocks: 2,
    output_blocks: 4,
    receive_blocks: 0,
    ..Config::DEVICE
};
type Memory<'s, const SOCKETS: usize> = StackMemory<'s, (), SOCKETS, { CONFIG.memory() }, 1024, 1024>;
type Server<'s, const CONNECTS: bool> = Stack<'s, Echo, End, Alone, CONNECTS>;

/// Runs a test with a stack of `SOCKETS` TCP sockets that listens on port 7, the device of it, and a host of clients.
fn with<const SOCKETS: usize, const CONNECTS: bool>(
    test: impl FnOnce(&mut Server<'_, CONNECTS>, &mut Clients<End>),
) {
    let (mut device, there) = wire();
    let mut memory = Memory::<SOCKETS>::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let config = Config { sockets: SOCKETS, ..CONFIG };
    let mut stack = Server::new(&mut memory, &config, uplink, Echo::default(), Alone, START).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    test(&mut stack, &mut Clients::new(there, 16));
}

/// Lets a client connect, and waits until the stack has its SYN.
fn half_open(stack: &mut Server<'_, false>, clients: &mut Clients<End>, now: Instant) -> Instant {
    let client = clients.socket(64, 64);
    clients.connect(client, 7);
    let sent = |clients: &Clients<End>| clients.device.outgoing.borrow().sent;
    let before = sent(clients);
    // the address resolution of the first client comes before its SYN
    let now = run(stack, clients, now, |clients, now| {
        let socket = clients.of(client).state();
        socket != State::SynSent || sent(clients) > before + 1 || now > START + Duration::from_secs(1)
    });
    clients.device.lose(clients.last_port);
    clients.sockets.remove(client);
    now
}

/// Has `count` further clients connect, and returns how long it takes until all are answered.
fn serve(
    stack: &mut Server<'_, false>,
    clients: &mut Clients<End>,
    count: usize,
    start: Instant,
) -> Duration {
    let mut answers = Answers::ask(clients, count, 7, b"hello");
    let now = run(stack, clients, start, |clients, now| {
        answers.look(clients, now);
        answers.count() == count
    });
    assert_eq!(answers.count(), count);
    now - start
}

/// Two idle clients do not lock the device, if the pool has a socket for the connection that evicts one of them.
#[test]
fn eviction_takes_one_socket_more() {
    const EVICT: Config = Config { evict_after: Some(Duration::from_millis(500)), ..CONFIG };
    let (mut device, there) = wire();
    let mut small = StackMemory::<(), 2, { EVICT.memory() }, 1024, 1024>::new();
    let mut uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let short = Server::<false>::new(&mut small, &EVICT, uplink, Echo::default(), Alone, START);
    let short = short.map(|_| ()).unwrap_err().to_string();
    assert!(short.contains("StackMemory::SOCKETS, with eviction, has a length of 2, and 3"), "{short}");

    let (mut device, there_too) = wire();
    drop(there);
    uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let mut memory = StackMemory::<(), 3, { EVICT.memory() }, 1024, 1024>::new();
    let mut stack = Server::<false>::new(&mut memory, &EVICT, uplink, Echo::default(), Alone, START).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    let mut clients = Clients::new(there_too, 16);
    let idle = [0; 2].map(|_| {
        let client = clients.socket(64, 64);
        clients.connect(client, 7);
        client
    });
    let now = run(&mut stack, &mut clients, START, |clients, _| {
        idle.iter().all(|client| clients.of(*client).may_send())
    });
    let span = serve(&mut stack, &mut clients, 1, now);
    assert!((Duration::from_millis(400)..Duration::from_secs(2)).contains(&span), "served after {span:?}");
    let evicted = stack.poller().handler().closed.iter().filter(|reason| **reason == CloseReason::Evicted);
    assert_eq!(evicted.count(), 1);
}

#[test]
fn half_open_connections_make_room() {
    with::<2, false>(|stack, clients| {
        let now = half_open(stack, clients, START);
        let now = half_open(stack, clients, now);
        let span = serve(stack, clients, 2, now);
        let short = Duration::from_millis(2_900)..Duration::from_millis(3_500);
        assert!(short.contains(&span), "served after {span:?}");
    });
}

#[test]
fn half_open_connections_end() {
    with::<1, false>(|stack, clients| {
        let now = half_open(stack, clients, START);
        let now = run(stack, clients, now, |_, now| now >= START + Duration::from_millis(9_900));
        assert!(serve(stack, clients, 1, now) < Duration::from_millis(100), "three seconds are over");
    });
    with::<1, false>(|stack, clients| {
        half_open(stack, clients, START);
        let mut now = START;
        let mut next = stack.poll(now);
        while let Some(at) = next.filter(|at| *at < START + Duration::from_secs(60)) {
            now = at.max(now + Duration::from_millis(1));
            next = stack.poll(now);
        }
        assert_eq!(next, None, "something is left of it");
        let end = Duration::from_secs(10)..Duration::from_secs(11);
        assert!(end.contains(&(now - START)), "the last at {now:?}");
    });
}

#[test]
fn a_handshake_that_the_peer_resets_makes_room_at_once() {
    with::<1, false>(|stack, clients| {
        let client = clients.socket(64, 64);
        clients.connect(client, 7);
        let now = run(stack, clients, START, |clients, _| clients.device.outgoing.borrow().sent == 2);
        // the host answers the SYN|ACK with a reset, as it has no socket any more
        clients.sockets.remove(client);
        assert!(serve(stack, clients, 3, now) < Duration::from_millis(100));
    });
}

#[test]
fn a_damaged_request_makes_room_at_once() {
    with::<1, false>(|stack, clients| {
        serve(stack, clients, 1, START);
        let now = run(stack, clients, START, |_, now| now >= START + Duration::from_millis(500));
        clients.device.outgoing.borrow_mut().damages = true;
        let client = clients.socket(64, 64);
        clients.connect(client, 7);
        assert!(serve(stack, clients, 1, now) < Duration::from_millis(100));
        assert!(!clients.device.outgoing.borrow().damages, "nothing was damaged");
        // it asks again after a second
        run(stack, clients, now, |clients, _| clients.of(client).may_send());
    });
}

/// The request of a peer that has vanished is not played after twenty seconds.
#[test]
fn requests_wait_for_twenty_seconds() {
    for (seconds, is_kept) in [(19, true), (21, false)] {
        with::<1, false>(|stack, clients| {
            let first = clients.socket(64, 64);
            clients.connect(first, 7);
            let now = run(stack, clients, START, |clients, _| clients.of(first).may_send());
            let gone = clients.socket(64, 64);
            clients.connect(gone, 7);
            clients.poll(now);
            stack.poll(now);
            clients.device.lose(clients.last_port);
            clients.sockets.remove(gone);
            let now = run(stack, clients, now, |_, now| now >= START + Duration::from_secs(seconds));
            clients.of(first).close();
            let span = serve(stack, clients, 1, now);
            assert_eq!(span > Duration::from_secs(2), is_kept, "after {seconds} s: served after {span:?}");
        });
    }
}

#[test]
fn listeners_have_a_maximum() {
    with::<1, false>(|stack, _| {
        let most = u8::try_from(PORTS_MAX).unwrap();
        assert!(!stack.listen(0, ListenerId(1)), "port 0");
        assert!(!stack.listen(7, ListenerId(1)), "the port is used");
        assert!(!stack.listen(8, ListenerId(0)), "the number is used");
        for id in 1..most {
            assert!(stack.listen(7 + u16::from(id), ListenerId(id)));
        }
        assert!(!stack.listen(100, ListenerId(most)), "one more than the maximum");
    });
}

#[test]
fn frames_of_a_poll_have_a_maximum() {
    for (count, left, at_once) in [(31, 0, false), (32, 0, true), (40, 8, true)] {
        with::<1, false>(|stack, clients| {
            for _ in 0..count {
                clients.device.outgoing.borrow_mut().send(time(START), vec![0; 60]);
            }
            let next = stack.poll(START);
            let lane = clients.device.outgoing.borrow();
            assert_eq!((lane.on_the_way(), next == Some(START)), (left, at_once), "{count} frames");
        });
    }
}

#[test]
fn a_busy_device_delays_a_connection() {
    with::<1, false>(|stack, clients| {
        serve(stack, clients, 1, START);
        let now = run(stack, clients, START, |_, now| now >= START + Duration::from_millis(500));
        let busy = stack.device().busy.clone();
        busy.set(true);
        let client = clients.socket(64, 64);
        clients.connect(client, 7);
        clients.poll(now);
        let next = stack.poll(now);
        assert_eq!(next, Some(now + Duration::from_millis(1)), "does not try again");
        busy.set(false);
        let served = run(stack, clients, now, |clients, _| clients.of(client).may_send());
        assert!(served - now < Duration::from_millis(100), "served at {served:?}");
    });
}

#[test]
fn a_connect_waits_for_a_free_socket() {
    let (mut device, there) = wire();
    let mut memory = Memory::<2>::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let mut stack = Server::<true>::new(&mut memory, &CONFIG, uplink, Echo::default(), Alone, START).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    let mut clients = Clients::new(there, 4);
    let first = clients.socket(64, 64);
    clients.connect(first, 7);
    let now = run(&mut stack, &mut clients, START, |clients, _| clients.of(first).may_send());
    // one slot is reserved for connects, and both TCP sockets are used: the second one by a half-open connection
    let second = clients.socket(64, 64);
    clients.connect(second, 7);
    clients.device.incoming.borrow_mut().cut = true;
    clients.poll(now);
    stack.poll(now);
    let server = clients.socket(64, 64);
    clients.of(server).listen(9).unwrap();
    stack.poller_mut().connect(Address::Inet((CLIENTS, 9).into()), 1).unwrap();
    let now = run(&mut stack, &mut clients, now, |_, now| now >= START + Duration::from_millis(500));
    assert_eq!(clients.of(server).state(), State::Listen);
    clients.device.incoming.borrow_mut().cut = false;
    clients.of(first).close();
    let now = run(&mut stack, &mut clients, now, |clients, _| clients.of(server).may_send());
    assert!(now < START + Duration::from_secs(3), "{now:?}");
}

#[test]
fn connects_that_cannot_be() {
    with::<1, false>(|stack, _| {
        let to = Address::Inet((CLIENTS, 9).into());
        assert_eq!(stack.poller_mut().connect(to, 1), Err(ConnectError::Unsupported), "without `CONNECTS`");
    });
    with::<1, true>(|stack, clients| {
        let to = Address::Inet("[2001:db8::1]:9".parse().unwrap());
        let token = stack.poller_mut().connect(to, 1).unwrap();
        run(stack, clients, START, |_, _| false);
        assert!(stack.poller_mut().connection_mut(token).is_none());
        assert_eq!(stack.poller().handler().refused, [ErrorKind::Unsupported]);
    });
}

/// A connect is cancelled, and its TCP socket is free at once.
#[test]
fn a_cancelled_connect_makes_room() {
    with::<1, true>(|stack, clients| {
        for n in 0..3 {
            let now = START + Duration::from_secs(n);
            let token = stack.poller_mut().connect(Address::Inet(([10, 0, 0, 77], 9).into()), 1).unwrap();
            let now = run(stack, clients, now, |_, at| at >= now + Duration::from_millis(50));
            stack.poller_mut().close_socket(token, true);
            run(stack, clients, now, |_, at| at >= now + Duration::from_millis(50));
        }
        assert_eq!(stack.poller().handler().refused.len(), 3);
        assert_eq!(stack.poller().shard().in_use(), 1, "the reserved slot");
    });
}

#[test]
fn bytes_of_a_closed_connection_are_delivered() {
    with::<1, false>(|stack, clients| {
        let client = clients.socket(16, 512);
        clients.connect(client, 7);
        let (mut sent, mut got) = (false, Vec::new());
        run(stack, clients, START, |clients, now| {
            let socket = clients.of(client);
            if socket.can_send() && !sent {
                sent = true;
                socket.send_slice(&[7; 400]).unwrap();
                socket.close();
            }
            // reads after five seconds, when the handler's socket has long been closed
            if now >= START + Duration::from_secs(5) {
                got.extend(received(socket));
            }
            got.len() == 400 || now > START + Duration::from_secs(20)
        });
        assert_eq!(got, [7; 400]);
        assert_eq!(stack.poller().handler().closed, [CloseReason::Peer]);
    });
}

#[test]
fn an_idle_connection_lets_the_processor_sleep() {
    with::<1, false>(|stack, clients| {
        let client = clients.socket(64, 64);
        clients.of(client).set_keep_alive(None);
        clients.connect(client, 7);
        let now = run(stack, clients, START, |clients, _| clients.of(client).may_send());
        clients.of(client).send_slice(b"echo").unwrap();
        let mut now = run(stack, clients, now, |clients, _| clients.of(client).can_recv());
        let mut polls = 0;
        while now < START + Duration::from_secs(60) {
            let next = stack.poll(now);
            clients.poll(now);
            polls += 1;
            now = next.into_iter().chain(clients.device.next()).min().unwrap().max(now);
        }
        assert!(polls < 20, "{polls} calls of `poll` in a minute");
    });
}
