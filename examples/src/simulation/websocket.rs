use core::time::Duration;

use lightcone::http::{Full, Http, Limits, State};
use lightcone::sim::{Script, Sim};
use lightcone::websocket::{
    Channel, FrameHeader, Mask, Message, MessageKind, MessageLimits, Opcode, WebSocket, WebSocketConfig,
    upgrade,
};

use super::{a_while, http_engine, must_be_done, one_of, server};

/// The longest message, which is delivered whole in the smallest buffer that is drawn.
pub(super) const MESSAGE_MAX: u32 = 150;
/// Long enough that no ping is sent, which would not be in the scripts. Peers that have vanished must still be noticed.
const PATIENCE: Duration = Duration::from_mins(10);

/// Sends messages back.
pub(super) struct Echo;

impl<S: State> WebSocket<S> for Echo {
    const CONFIG: WebSocketConfig = WebSocketConfig {
        limits: MessageLimits { frame: MESSAGE_MAX, message: MESSAGE_MAX, piece: MESSAGE_MAX },
        ping: Some(PATIENCE),
        pong: PATIENCE,
        close: PATIENCE,
    };

    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full> {
        assert!(message.is_whole(), "a short message is whole, however it is fragmented and cut");
        channel.send_fragment(message.kind(), message.fragment(), message.bytes())
    }
}

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nServer: lightcone\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn frame(fin: bool, opcode: Opcode, mask: Option<Mask>, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { fin, opcode, mask, length: payload.len() as u64 };
    let mut payload = payload.to_vec();
    if let Some(mut mask) = mask {
        mask.apply(&mut payload);
    }
    [header.encode().as_bytes(), &payload].concat()
}

/// Returns a message in fragments, with pings in between, and the frames that the server sends for it.
fn message(sim: &mut Sim<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    let kind = if sim.draw(2) == 1 { MessageKind::Text } else { MessageKind::Binary };
    let length = sim.draw(MESSAGE_MAX / 3 + 1) as usize;
    // Three bytes each, which a fragment may divide.
    let payload = "€".repeat(length).into_bytes();
    let size = one_of(sim, &[usize::MAX, 1, 7, 50]).unwrap_or(usize::MAX);
    let mut opcode = kind.opcode();
    for fragment in payload.chunks(size) {
        let mask = Some(Mask::new(sim.draw(u32::MAX).to_be_bytes()));
        request.extend(frame(false, opcode, mask, fragment));
        opcode = Opcode::Continuation;
        if sim.draw(8) == 1 {
            request.extend(frame(true, Opcode::Ping, mask, b"ping"));
            answer.extend(frame(true, Opcode::Pong, None, b"ping"));
        }
    }
    request.extend(frame(true, opcode, Some(Mask::default()), b""));
    answer.extend(frame(true, kind.opcode(), None, &payload));
    (request, answer)
}

pub(super) fn run(sim: &mut Sim<'_>) {
    let engine = http_engine(sim);
    let limits = Limits { head_time: PATIENCE, ..Limits::DEFAULT };
    let http = sim.engine(engine, |_poller| {
        Http::new().limits(limits).get("/ws", |request, response| upgrade(&request, response, Echo))
    });
    sim.listen(http, server(1));
    let peers = one_of(sim, &[15, 3, 40]).unwrap_or(15);
    let mut stubborn = Vec::new();
    for _ in 0..peers {
        let script = Script::to(server(1)).after(a_while(sim, 200));
        let mut script = script.send(HANDSHAKE);
        let eager = sim.draw(2) == 1; // a browser would wait for the response
        script = if eager { script.expect(SWITCHING) } else { script.receive(SWITCHING) };
        for _ in 0..=sim.draw(8) {
            let (request, answer) = message(sim);
            script = script.send(request);
            script = if eager { script.expect(answer) } else { script.receive(answer) };
        }
        match sim.draw(6) {
            1 => sim.peer(script.reset()),
            2 => {
                let bytes = u64::from(sim.draw(1_000));
                sim.peer(script.reset_after(bytes))
            }
            3 => sim.peer(script.half_close().until_end()),
            _ => {
                let close = frame(true, Opcode::Close, Some(Mask::default()), b"\x03\xe8bye");
                let script = script.send(close).expect(frame(true, Opcode::Close, None, b"\x03\xe8"));
                let peer = sim.peer(script.until_end().retry(u32::MAX, Duration::from_millis(200)));
                stubborn.push(peer);
                peer
            }
        };
    }
    sim.finish();
    must_be_done(sim, &stubborn);
}
