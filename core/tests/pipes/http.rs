use core::mem::MaybeUninit;
use lightcone_core::poller::{Alone, Poller, PollerStorage, TopicStorage};
use lightcone_core::{Config, Instant, Shard, Storage, TimerStorage};
use lightcone_http::Http;

const CONFIG: Config = Config { sockets: 8, ..Config::DEVICE };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = Http::new()
        .get("/foo", |_request, response| response.text("bar"))
        .get("/hello/{name}", |request, response| response.display(request.param("name")));

    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut blocks = [0; CONFIG.memory()];
    let mut connections = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let (mut listeners, mut buffer) = ([None], [0; 512]);
    let now = Instant::from_millis(0);
    let shard = Shard::new(Storage { slots: &mut slots, memory: &mut blocks }, &CONFIG, now)?;
    let storage = PollerStorage {
        connections: &mut connections,
        listeners: &mut listeners,
        buffer: &mut buffer,
        timers: TimerStorage::none(),
        rooms: &mut [],
        topics: TopicStorage::none(),
    };
    let mut poller: Poller<'_, _, _, _, 4> = Poller::new(shard, api, Pipes::default(), Alone, storage)?;
    poller.listen((), ListenerId(0)).expect("there is room for one listener");

    // Eight connections at once; the last request of each closes it.
    let asks = |n: usize| {
        format!(
            "GET /foo HTTP/1.1\r\nHost: a\r\n\r\nGET /hello/{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
    };
    let pipe = |n| Pipe { to_poller: asks(n).into_bytes().into(), window: 4096, ..Pipe::default() };
    let peers: Vec<PipeRef> = (0..8).map(|n| Rc::new(RefCell::new(pipe(n)))).collect();
    poller.transport_mut().backlog.extend(peers.iter().cloned());

    for _turn in 0..20 {
        poller.begin_turn(now, Some(784_111_777));
        for (token, ready) in poller.transport().ready() {
            if ready.writes() {
                poller.on_writable(token);
            }
            if ready.reads() {
                poller.on_readable(token);
            }
        }
        if poller.transport().acceptable() {
            poller.on_acceptable(ListenerId(0));
        }
        poller.turn();
        for mut peer in peers.iter().map(|peer| peer.borrow_mut()) {
            peer.peer_ended |= peer.ended; // as a client does when it has the last response
        }
    }
    for (n, peer) in peers.iter().enumerate() {
        let answers = String::from_utf8(peer.borrow().to_peer.clone())?;
        assert!(answers.starts_with("HTTP/1.1 200 OK\r\n") && answers.contains("\r\n\r\nbar"), "{answers}");
        assert!(answers.ends_with(&format!("\r\n\r\n{n}")) && peer.borrow().ended, "{answers}");
    }
    assert_eq!(poller.shard().in_use(), 0);
    Ok(())
}
