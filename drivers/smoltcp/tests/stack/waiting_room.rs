//! More clients than TCP sockets.

use crate::wire::{Answers, Clients, Echo, SERVER, interface, run, time, wire};
use lightcone_core::poller::Alone;
use lightcone_core::{Config, Instant, ListenerId};
use lightcone_smoltcp::smoltcp::iface::{SocketSet, SocketStorage};
use lightcone_smoltcp::smoltcp::socket::tcp;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

const CLIENTS: usize = 16;
const CONFIG: Config = Config {
    sockets: 2,
    block_size: 512,
    input_blocks: 2,
    output_blocks: 4,
    receive_blocks: 0,
    ..Config::DEVICE
};

/// Has 16 clients connect at once to a stack of two sockets. Returns how many are answered within a minute, and when
/// the last one was.
fn with_room<const ROOM: usize>() -> (usize, Instant) {
    let (mut device, there) = wire();
    let mut memory = StackMemory::<'_, _, { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let start = Instant::from_millis(0);
    let mut stack: Stack<'_, _, _, _, false, 1, ROOM> =
        Stack::new(&mut memory, &CONFIG, uplink, Echo::default(), Alone, start).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    let mut clients = Clients::new(there, CLIENTS);
    let mut answers = Answers::ask(&mut clients, CLIENTS, 7, b"hello");
    let now = run(&mut stack, &mut clients, start, |clients, now| {
        answers.look(clients, now);
        answers.count() == CLIENTS || now > Instant::from_millis(60_000)
    });
    (answers.count(), now)
}

#[test]
fn all_are_answered_at_once_if_they_have_room_to_wait() {
    let (count, at) = with_room::<16>();
    println!("answered {count} until {at:?}");
    assert_eq!(count, CLIENTS);
    assert!(at < Instant::from_millis(100), "the last one was answered at {at:?}");
}

#[test]
fn without_a_place_they_come_back_later() {
    // 14 have to wait: with one place less, exactly one comes back after a second
    let (count, at) = with_room::<13>();
    println!("answered {count} until {at:?}");
    assert_eq!(count, CLIENTS);
    assert!(at >= Instant::from_millis(500), "none had to come back: {at:?}");
    let (count, at) = with_room::<14>();
    assert_eq!(count, CLIENTS);
    assert!(at < Instant::from_millis(100), "the last one was answered at {at:?}");
    let (_, at) = with_room::<1>();
    assert!(at >= Instant::from_millis(1_000), "{at:?}");
}

/// The same with the TCP sockets alone: shows what the waiting room is for.
#[test]
fn plain_sockets_reset_them() {
    let (mut device, there) = wire();
    let mut interface = interface(&mut device, SERVER);
    let mut storage = [SocketStorage::EMPTY, SocketStorage::EMPTY];
    let mut sockets = SocketSet::new(&mut storage[..]);
    let handles = [(); 2].map(|()| {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1024].leak());
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(7).unwrap();
        sockets.add(socket)
    });
    let mut clients = Clients::new(there, CLIENTS);
    let mut answers = Answers::ask(&mut clients, CLIENTS, 7, b"hello");
    for millis in 0..60_000 {
        let now = Instant::from_millis(millis);
        interface.poll(time(now), &mut device, &mut sockets);
        for handle in handles {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if let Ok(bytes) = socket.recv(|bytes| (bytes.len(), bytes.to_vec()))
                && !bytes.is_empty()
            {
                let _ = socket.send_slice(&bytes); // too late for a connection that was reset
            } else if socket.state() == tcp::State::CloseWait {
                socket.close();
            } else if !socket.is_open() {
                socket.listen(7).unwrap();
            }
        }
        clients.poll(now);
        answers.look(&mut clients, now);
    }
    assert_eq!(answers.count(), 2);
}
