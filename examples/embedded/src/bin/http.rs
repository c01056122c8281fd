//! A web server on a microcontroller: a page with live figures, and LEDs that it switches.
#![no_std]
#![no_main]

#[path = "../routes.rs"]
mod routes;

use core::time::Duration;

use lightcone_core::poller::Alone;
use lightcone_core::{Config, Handler, Instant, ListenerId, SetupError, Timeouts};
use lightcone_embedded::{
    Board, Clock, Frames, Lan9118, Leds, StackUse, Watchdog, interface, restart, sleep, stack_use,
};
use lightcone_http as http;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};
use routes::{Memory, Panel};

/// The maximum number of connections. Further ones wait.
const SOCKETS: usize = 4;

/// The maximum number of connections that wait.
const WAITING: usize = 8;

/// The maximum size of a frame, which bounds a TCP segment to 536 bytes, the least that every peer must take.
const FRAME: usize = 590;

/// The buffers of TCP for each socket, in bytes: what a peer may send before the handler sees it, and what may be sent
/// before the peer acknowledges it.
const RECEIVE: usize = 512;
const SEND: usize = 512;

/// A head or a response has at most 1 KiB (two blocks).
const CONFIG: Config = Config {
    sockets: SOCKETS,
    block_size: 512,
    input_blocks: 2,
    output_blocks: 5,
    output_limit: 2,
    receive_size: 1024,
    receive_blocks: 1,
    timeouts: Timeouts {
        first_byte: Some(Duration::from_secs(5)),
        idle: Some(Duration::from_secs(15)),
        write_stall: Some(Duration::from_secs(10)),
        ..Timeouts::DEFAULT
    },
    ..Config::DEVICE
};

/// The figures and LEDs of the board.
struct BoardPanel {
    leds: Leds,
}

impl Panel for BoardPanel {
    fn leds(&self) -> u32 {
        self.leds.get()
    }

    fn set_leds(&mut self, leds: u32) {
        self.leds.set(leds);
    }

    fn memory(&self) -> Memory {
        let StackUse { used, size, below } = stack_use();
        Memory { fixed: below, stack: used, stack_size: size }
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut frames = Frames::<FRAME>::new();
    let Some(mut board) = Board::take(&mut frames) else { restart() };
    board.uart.print("http: started\n");
    let server = build(BoardPanel { leds: board.leds });
    serve(board.ethernet, board.clock, board.watchdog, server)
}

/// Builds the server. Each route that is added moves the server, so this has a frame of its own, which is free again
/// when the server runs.
#[inline(never)]
fn build(panel: BoardPanel) -> impl Handler<Message: Copy> {
    routes::server(panel)
}

/// Runs a handler on port 80. The memory of its sockets is part of the frame of this function.
#[inline(never)]
fn serve<H: Handler<Message: Copy>>(
    ethernet: Lan9118<'_>,
    mut clock: Clock,
    mut watchdog: Watchdog,
    handler: H,
) -> ! {
    let mut memory = SocketMemory::<H::Data>::new();
    let mut built = join(&mut memory, ethernet, handler, Instant::from_millis(clock.now()));
    // Used in place, because a move would need the memory of a second stack.
    let Ok(stack) = &mut built else { restart() };
    if !stack.listen(80, ListenerId(0)) {
        restart();
    }
    loop {
        watchdog.feed();
        let next = stack.poll(Instant::from_millis(clock.now()));
        sleep(|| stack.device().has_work() || next.is_some_and(|next| clock.now() >= next.as_millis()));
    }
}

/// The memory of the sockets.
type SocketMemory<'m, T> = StackMemory<'m, T, SOCKETS, { CONFIG.memory() }, RECEIVE, SEND>;

/// Creates the stack of the sockets. Its parts are moved several times until it is complete; with a frame of its own,
/// the memory for that is free again when the server runs.
#[inline(never)]
fn join<'m, H: Handler<Message: Copy>>(
    memory: &'m mut SocketMemory<'m, H::Data>,
    mut ethernet: Lan9118<'m>,
    handler: H,
    now: Instant,
) -> Result<Stack<'m, H, Lan9118<'m>, Alone, false, 1, WAITING>, SetupError> {
    let interface = interface(&mut ethernet);
    Stack::new(memory, &CONFIG, Uplink { device: ethernet, interface }, handler, Alone, now)
}
