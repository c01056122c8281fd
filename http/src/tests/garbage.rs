//! Arbitrary input causes no panic and no stuck connection, and the response does not depend on how the input is cut.

extern crate std;

use std::string::String;
use std::vec::Vec;

use lightcone_core::{ContractChecker, Handler};

use crate::tests::random::Random;
use crate::{Exchange, Flow, Http, Limits, State, Transfer};

use super::rig::Rig;

struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

fn server() -> impl Handler {
    ContractChecker::new(
        Http::new()
            .limits(Limits { head: 600, target: 60, fields: 8, body: 2_000, ..Limits::DEFAULT })
            .get("/foo", |_request, response| response.text("bar"))
            .get("/big", |_request, response| response.generate(5_000, |_, piece| piece.fill(b'g')))
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
            .post("/text", |request, response| {
                request.collect::<64, _>(response, |_, body, response| response.bytes(body))
            }),
    )
}

const PIECES: &[&[u8]] = &[
    b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /foo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n",
    b"POST /text HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;e\r\nab\r\n0\r\n\r\n",
    b"POST /text HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /foo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
];

fn input(random: &mut Random) -> Vec<u8> {
    let mut input: Vec<u8> = (0..1 + random.below(4)).flat_map(|_| random.pick(PIECES)).copied().collect();
    for _ in 0..random.below(3) {
        let at = random.below(input.len());
        match random.below(4) {
            0 => input[at] = u8::try_from(random.below(256)).unwrap(),
            1 => drop(input.remove(at)),
            2 => drop(input.splice(at..at, random.pick(PIECES).iter().copied().take(random.below(30)))),
            _ => drop(input.splice(at..at, *random.pick(&[b"\r\n", b"\n\n", b": ", b"\0\0", b"00"]))),
        }
    }
    input
}

/// Returns all responses to an input in pieces of `cut` bytes, and whether the connection stays open.
fn serve<H: Handler + 'static>(rig: &mut Rig<H>, input: &[u8], cut: usize) -> (String, bool) {
    let peer = rig.connect();
    rig.peers[peer].cut = cut;
    rig.send(peer, input);
    let open = !rig.peers[peer].shut && !rig.peers[peer].closed;
    let answer = rig.take(peer);
    rig.end(peer);
    assert!(rig.peers[peer].closed, "stuck: {}", input.escape_ascii());
    rig.peers.clear();
    (answer, open)
}

/// Fewer on an emulated board, where they take minutes.
const INPUTS: usize = if cfg!(target_os = "none") { 5_000 } else { 50_000 };

#[test]
fn mutated_inputs() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let mut rig = Rig::untimed(server());
    for _ in 0..INPUTS {
        let input = input(&mut random);
        let (whole, open) = serve(&mut rig, &input, usize::MAX);
        assert!(!whole.contains("HTTP/1.1 500"), "seed {seed}: {}", input.escape_ascii());
        let cut = 1 + random.below(20);
        let (pieces, still_open) = serve(&mut rig, &input, cut);
        assert_eq!(open, still_open, "seed {seed}, pieces of {cut}: {}", input.escape_ascii());
        // The chunks of an echoed body depend on the cuts; everything else is equal byte by byte.
        if !whole.contains("Transfer-Encoding") {
            assert_eq!(pieces, whole, "seed {seed}, pieces of {cut}: {}", input.escape_ascii());
        }
    }
}

#[test]
fn noise() {
    let mut random = Random::new(Random::seed());
    let mut rig = Rig::untimed(server());
    for _ in 0..5_000 {
        let noise: Vec<u8> =
            (0..random.below(200)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        serve(&mut rig, &noise, 1 + random.below(50));
    }
}
