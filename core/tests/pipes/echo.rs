use core::mem::MaybeUninit;
use lightcone_core::poller::{Alone, Poller, PollerStorage, TopicStorage};
use lightcone_core::{
    CloseReason, Config, Context, Handler, Instant, Origin, Shard, Socket, Storage, Timeout, TimerStorage,
};

/// Sends all input back, and records the close reasons.
struct Echo(Vec<CloseReason>);

impl Handler for Echo {
    type Data = ();
    type Message = core::convert::Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken); // the rest stays until `writable`
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
        self.receive(socket, cx);
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Self::Message>) {
        self.0.push(reason);
    }
}

const CONFIG: Config = Config { sockets: 8, ..Config::DEVICE };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // All the memory that the poller uses.
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut blocks = [0; CONFIG.memory()];
    let mut connections = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let (mut listeners, mut buffer) = ([None], [0; 512]);

    let mut now = Instant::from_millis(0); // from a clock that never goes back
    let storage = Storage { slots: &mut slots, memory: &mut blocks };
    let shard = Shard::new(storage, &CONFIG, now)?;
    let storage = PollerStorage {
        connections: &mut connections,
        listeners: &mut listeners,
        buffer: &mut buffer,
        timers: TimerStorage::none(),
        rooms: &mut [],
        topics: TopicStorage::none(),
    };
    // Handlers can begin 4 connects in a turn, and 4 accepted connections are placed before they are admitted.
    let mut poller: Poller<'_, _, _, _, 4> =
        Poller::new(shard, Echo(Vec::new()), Pipes::default(), Alone, storage)?;
    poller.listen((), ListenerId(0)).expect("there is room for one listener");

    // Eight peers: each sends a line, and accepts ten bytes.
    let pipe = |says: &str| Pipe { to_poller: says.bytes().collect(), window: 10, ..Pipe::default() };
    let peers: Vec<PipeRef> = (0..8).map(|n| Rc::new(RefCell::new(pipe(&format!("peer {n}\n"))))).collect();
    poller.transport_mut().backlog.extend(peers.iter().cloned());

    while poller.handler().0.len() < peers.len() {
        poller.begin_turn(now, None);
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
        if poller.transport().ready().is_empty() && !poller.transport().acceptable() {
            // A device would sleep until this time or an interrupt.
            now = poller.next_turn().unwrap_or(now);
        }
    }
    for (n, peer) in peers.iter().enumerate() {
        assert_eq!(peer.borrow().to_peer, format!("peer {n}\n").as_bytes());
    }
    assert!(poller.handler().0.iter().all(|reason| *reason == CloseReason::TimedOut(Timeout::Idle)));
    assert!(now.as_millis() > 75_000);
    Ok(())
}
