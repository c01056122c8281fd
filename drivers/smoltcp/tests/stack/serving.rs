//! Handlers over the stack, and clients on a network in memory.

use crate::wire::{Clients, Echo, SERVER, interface, received, run, wire};
use lightcone_core::poller::Alone;
use lightcone_core::{CloseReason, Config, Instant, ListenerId};
use lightcone_http::Http;
use lightcone_smoltcp::smoltcp::socket::tcp::State;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

const CONFIG: Config = Config {
    sockets: 4,
    block_size: 512,
    input_blocks: 4,
    output_blocks: 8,
    receive_blocks: 0,
    ..Config::DEVICE
};
type Memory<'s, T> = StackMemory<'s, T, { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>;

#[test]
fn bytes_come_back() {
    let (mut device, there) = wire();
    let mut memory = Memory::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let start = Instant::from_millis(0);
    let mut stack: Stack<'_, _, _> =
        Stack::new(&mut memory, &CONFIG, uplink, Echo::default(), Alone, start).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    let mut clients = Clients::new(there, 1);
    let client = clients.socket(256, 256);
    clients.connect(client, 7);
    let mut back = Vec::new();
    let mut sent = false;
    let now = run(&mut stack, &mut clients, start, |clients, _| {
        let socket = clients.of(client);
        if socket.can_send() && !sent {
            sent = true;
            socket.send_slice(b"echo").unwrap();
        }
        back.extend(received(socket));
        back == b"echo"
    });
    assert_eq!(now, start);
    clients.of(client).close();
    run(&mut stack, &mut clients, now, |clients, _| clients.of(client).state() == State::TimeWait);
    assert_eq!(stack.poller().handler().closed, [CloseReason::Peer]);
}

#[test]
fn http_is_served() {
    let api = Http::new()
        .get("/foo", |_request, response| response.text("bar"))
        .get("/hello/{name}", |request, response| response.display(request.param("name")));
    let (mut device, there) = wire();
    let mut memory = Memory::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let start = Instant::from_millis(0);
    let mut stack: Stack<'_, _, _> = Stack::new(&mut memory, &CONFIG, uplink, api, Alone, start).unwrap();
    assert!(stack.listen(80, ListenerId(0)));
    let mut clients = Clients::new(there, 4);
    let sockets: Vec<_> = (0..4).map(|_| clients.socket(2048, 2048)).collect();
    for socket in &sockets {
        clients.connect(*socket, 80);
    }
    let mut answers = vec![Vec::new(); 4];
    let mut asked = [false; 4];
    run(&mut stack, &mut clients, start, |clients, _| {
        for (n, handle) in sockets.iter().enumerate() {
            let socket = clients.of(*handle);
            if socket.can_send() && !asked[n] {
                asked[n] = true;
                let ask = format!(
                    "GET /foo HTTP/1.1\r\nHost: a\r\n\r\nGET /hello/{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                );
                socket.send_slice(ask.as_bytes()).unwrap();
            }
            answers[n].extend(received(socket));
            if socket.state() == State::CloseWait {
                socket.close();
            }
        }
        sockets.iter().all(|handle| clients.of(*handle).state() == State::Closed)
    });
    for (n, answer) in answers.iter().enumerate() {
        let answer = String::from_utf8_lossy(answer);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\n\r\nbar"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{n}")), "{answer}");
    }
    assert_eq!(stack.poller().shard().in_use(), 0);
}
