//! A driver of one connection, as short as one can be: what the peer says comes in as pieces, what it hears is kept.

use core::mem::MaybeUninit;

use lightcone_core::{
    Address, Config, Context, Handler, Instant, ListenerId, Next, NoOutbox, Origin, Port, Shard, Storage,
    Token,
};

const CONFIG: Config = Config { sockets: 2, input_blocks: 2, output_blocks: 2, ..Config::DEVICE };

/// Accepts a peer that says `pieces` one by one and leaves, if it is not left before. Gives how many bytes of `heard`
/// it was told; nothing, if the connection took a course that it must not take.
pub fn play<H>(handler: &mut H, pieces: &[&[u8]], heard: &mut [u8]) -> Option<usize>
where
    H: Handler,
{
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let mut shard = Shard::new(storage, &CONFIG, Instant::from_millis(0)).ok()?;
    let peer = Address::Inet(([192, 0, 2, 1], 49152).into());
    let token = shard.admit(handler, Origin::Accepted { listener: ListenerId(0) }, &peer).ok()?;
    let mut line = Line { shard, token, handler, heard, told: 0 };
    let mut open = line.run(&[], false)?;
    line.shard.next_deadline()?;
    for piece in pieces {
        open = open && line.run(piece, false)?;
    }
    open = open && line.run(&[], true)?;
    (!open && line.shard.port(token).is_none() && line.shard.in_use() == 0).then_some(line.told)
}

/// The connection and what its peer was told.
struct Line<'a, 's, H: Handler> {
    shard: Shard<'s, H::Data>,
    token: Token,
    handler: &'a mut H,
    heard: &'a mut [u8],
    told: usize,
}

impl<H: Handler> Line<'_, '_, H> {
    /// Brings what the peer says, or that it leaves, and carries out the orders that follow. Whether it is still open.
    fn run(&mut self, said: &[u8], leaves: bool) -> Option<bool> {
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(0), None, CONFIG.poller, &mut outbox);
        let mut buffer = [0; 512];
        let bytes = buffer.get_mut(..said.len())?;
        bytes.copy_from_slice(said);
        let mut port = self.shard.port(self.token)?;
        port.received(bytes);
        if leaves {
            port.ended();
        }
        let mut next = port.run(self.handler, &mut cx);
        loop {
            let mut port = self.shard.port(self.token);
            match next {
                Next::Wait(_) => return Some(true),
                Next::Close => return port.is_none().then_some(false),
                Next::Shut => port.as_mut()?.shut(),
                _ => self.told = hear(port.as_mut()?, self.heard, self.told)?,
            }
            next = port?.run(self.handler, &mut cx);
        }
    }
}

/// Takes what is to be sent, puts it behind the `told` bytes that were `heard`, and gives how many they are then.
fn hear<D>(port: &mut Port<'_, '_, D>, heard: &mut [u8], told: usize) -> Option<usize> {
    let mut slices = [&[][..]; 2];
    let filled = port.outputs(&mut slices);
    let mut end = told;
    for slice in slices.get(..filled)? {
        heard.get_mut(end..end + slice.len())?.copy_from_slice(slice);
        end += slice.len();
    }
    port.sent(end - told);
    Some(end)
}
