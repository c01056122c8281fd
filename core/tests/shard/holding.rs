//! Output that is held back: the driver's actions, and the outcome when the socket ends.

use crate::common::{Bench, Data, PLAIN, on};
use lightcone_core::{Action, CloseReason, ErrorKind, Event, Interest, Socket, Token};

const READ: Action = Action::Wait(Interest::READ);

const FRONT: u32 = 0;
const HOLD: u32 = 1;
const RELEASE: u32 = 2;
const DISCARD: u32 = 3;
const WRITE: u32 = 4;
const CLOSE: u32 = 5;
const LINGER: u32 = 6;
const FINISH: u32 = 7;
const ABORT: u32 = 8;

fn obey(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    let Event::Message(order) = event else { return };
    {
        let (_, mut output, _) = socket.split();
        match order {
            FRONT => output.send(b"front ").unwrap(),
            HOLD => {
                let mark = output.seal();
                output.send(b"tail ").unwrap();
                output.hold(mark);
                assert_eq!((output.held(), output.is_holding()), (&b"tail "[..], true));
            }
            RELEASE => output.release(),
            DISCARD => output.discard(),
            WRITE => output.send(b"more").unwrap(),
            _ => {}
        }
    }
    match order {
        CLOSE => socket.close(),
        LINGER => socket.linger(),
        FINISH => socket.finish(),
        ABORT => socket.abort(),
        _ => {}
    }
}

fn order(bench: &mut Bench, token: Token, orders: &[u32]) -> Action {
    orders.iter().map(|order| bench.message(token, *order).unwrap()).last().unwrap()
}

#[test]
fn what_is_held_back_is_not_sent_and_the_rest_is() {
    for pull in [false, true] {
        let mut bench = Bench::new(&PLAIN, obey);
        bench.pull = pull;
        let token = bench.open();
        assert_eq!(order(&mut bench, token, &[HOLD]), READ, "nothing may be sent");
        assert_eq!(bench.receive(token, b"x"), READ, "nor after other events");
        assert_eq!(order(&mut bench, token, &[RELEASE]), Action::Send);
        assert_eq!(bench.flush(token).0, b"tail ");
        assert_eq!(order(&mut bench, token, &[FRONT, HOLD]), Action::Send);
        assert_eq!(bench.flush(token), (b"front ".to_vec(), READ), "only the front is sent");
        assert_eq!(order(&mut bench, token, &[DISCARD]), READ);
        assert_eq!(order(&mut bench, token, &[FRONT, HOLD, WRITE]), Action::Send);
        assert_eq!(bench.flush(token).0, b"front tail more");
        assert_eq!(order(&mut bench, token, &[FRONT, HOLD, DISCARD, WRITE]), Action::Send);
        assert_eq!(bench.flush(token), (b"front more".to_vec(), READ));
        bench.shard.connection(token).unwrap().abort_with(CloseReason::Aborted);
        let stats = bench.shard.stats();
        assert_eq!((stats.bytes_out, stats.bytes_lost), (5 + 6 + 15 + 10, 0));
    }
}

#[test]
fn an_end_in_order_sends_what_was_held_back() {
    for end in [CLOSE, LINGER, FINISH] {
        let mut bench = Bench::new(&PLAIN, obey);
        let token = bench.open();
        assert_eq!(order(&mut bench, token, &[HOLD, end]), Action::Send);
        assert_eq!(bench.flush(token).0, b"tail ");
        assert_eq!(bench.shard.stats().bytes_lost, 0);
    }
}

#[test]
fn what_is_held_back_when_the_connection_breaks_is_counted_as_lost() {
    for abort in [false, true] {
        let mut bench = Bench::new(&PLAIN, obey);
        let token = bench.open();
        assert_eq!(order(&mut bench, token, &[HOLD]), READ);
        let next = if abort {
            order(&mut bench, token, &[ABORT])
        } else {
            bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset))
        };
        assert_eq!(next, Action::Close);
        assert_eq!(
            bench.handler.inner().trace.last().map(|seen| seen.queued),
            Some(5),
            "reported in `close`"
        );
        assert_eq!((bench.shard.stats().bytes_lost, bench.shard.needs_reset()), (5, true));
    }
}

#[test]
fn a_send_in_flight_goes_on_when_what_is_held_back_is_discarded() {
    let mut bench = Bench::new(&PLAIN, obey);
    let token = bench.open();
    assert_eq!(order(&mut bench, token, &[FRONT, HOLD]), Action::Send);
    assert_eq!(bench.tell(token, |conn| conn.send_started()), READ);
    assert_eq!(order(&mut bench, token, &[DISCARD, HOLD]), READ);
    assert_eq!(bench.outputs(token), b"front ");
    assert_eq!(bench.tell(token, |conn| conn.sent(6)), READ);
    assert_eq!(order(&mut bench, token, &[RELEASE]), Action::Send);
    assert_eq!(bench.flush(token), (b"tail ".to_vec(), READ));
}

/// What is held begins a block, so the bytes before it leave the rest of theirs free for nothing.
#[test]
fn held_bytes_occupy_a_block_of_their_own() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            let (_, mut output) = socket.stream.split();
            let (limit, block) = (output.limit(), output.free_block());
            let is = |output: &lightcone_core::Output<'_>, queued, occupied| {
                assert_eq!((output.queued(), output.occupied()), (queued, occupied));
                assert_eq!(output.occupied() + output.room(), limit);
            };
            is(&output, 0, 0);
            output.send(b"front ").unwrap();
            is(&output, 6, 6);
            let mark = output.seal();
            output.send(b"tail ").unwrap();
            output.hold(mark);
            is(&output, 6, block + 5);
            output.release();
            is(&output, 11, block + 5);
            let room = output.room();
            output.send(&vec![b'.'; room]).unwrap();
            is(&output, 11 + room, limit);
        }),
    );
    let token = bench.open();
    let _ = bench.receive(token, b"go");
    assert_eq!(bench.outputs(token).len(), 6 + PLAIN.block_size);
}
