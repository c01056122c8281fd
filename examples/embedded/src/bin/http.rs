//! A web server on a microcontroller: a page with live figures, and LEDs that it switches.
#![no_std]
#![no_main]

#[path = "../routes.rs"]
mod routes;

use core::time::Duration;

use lightcone_core::poller::Alone;
use lightcone_core::{Config, Handler, Instant, ListenerId, Timeouts};
use lightcone_embedded::{
    Board, Clock, Frames, Lan9118, Leds, Watchdog, interface, restart, sleep, stack_use,
};
use lightcone_http as http;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};
use routes::{Memory, Panel};

/// The maximum number of connections. Further ones wait.
const SOCKETS: usize = 4;

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
    /// The memory that is lent, in bytes.
    lent: usize,
}

impl Panel for BoardPanel {
    fn leds(&self) -> u32 {
        self.leds.get()
    }

    fn set_leds(&mut self, leds: u32) {
        self.leds.set(leds);
    }

    fn memory(&self) -> Memory {
        let stack = stack_use();
        // The lent memory lies at the beginning of the stack.
        let (used, size) = (stack.used.saturating_sub(self.lent), stack.size.saturating_sub(self.lent));
        Memory { fixed: self.lent + stack.below, stack: used, stack_size: size }
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut frames = Frames::<FRAME>::new();
    let Some(mut board) = Board::take(&mut frames) else { restart() };
    board.uart.print("http: started\n");
    serve(board.ethernet, board.clock, board.watchdog, |lent| {
        routes::server(BoardPanel { leds: board.leds, lent })
    })
}

/// Runs a handler on port 80.
fn serve<H: Handler<Message: Copy>>(
    ethernet: Lan9118<'_>,
    mut clock: Clock,
    mut watchdog: Watchdog,
    handler: impl FnOnce(usize) -> H,
) -> ! {
    let mut memory = StackMemory::<H::Data, SOCKETS, { CONFIG.memory() }, RECEIVE, SEND>::new();
    let handler = handler(size_of_val(&memory));
    let now = Instant::from_millis(clock.now());
    let mut ethernet = ethernet;
    let interface = interface(&mut ethernet);
    let stack = Stack::<_, _, Alone, false, 1, 8>::new(
        &mut memory,
        &CONFIG,
        Uplink { device: ethernet, interface },
        handler,
        Alone,
        now,
    );
    let Ok(mut stack) = stack else { restart() };
    if !stack.listen(80, ListenerId(0)) {
        restart();
    }
    loop {
        watchdog.feed();
        let next = stack.poll(Instant::from_millis(clock.now()));
        sleep(|| stack.device().has_work() || next.is_some_and(|next| clock.now() >= next.as_millis()));
    }
}
