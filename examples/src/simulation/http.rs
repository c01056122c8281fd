use core::fmt::Write as _;
use core::time::Duration;

use lightcone::http::{Exchange, Flow, Http, Limits, State, Transfer};
use lightcone::sim::{Script, Sim};

use super::{a_while, http_engine, must_be_done, one_of, server};

/// Sends the request body back as it arrives.
pub(super) struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// Writes the letters of a body from an offset on.
pub(super) fn letters(offset: u64, piece: &mut [u8]) {
    for (byte, letter) in piece.iter_mut().zip((b'a'..=b'z').cycle().skip((offset % 26) as usize)) {
        *byte = letter;
    }
}

fn head(kind: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nServer: lightcone\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n{kind}Content-Length: {length}\r\n\r\n"
    )
}

const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";

/// Returns a request and its response.
fn exchange(sim: &mut Sim<'_>, number: u32) -> (Vec<u8>, Vec<u8>) {
    let length = one_of(sim, &[10, 200, 3_000]).unwrap_or(10);
    let length = sim.draw(length) as usize;
    let mut body = vec![0; length];
    letters(number.into(), &mut body);
    match sim.draw(5) {
        1 => {
            let request = format!("GET /big?bytes={length} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut body = vec![0; length];
            letters(0, &mut body);
            (request.into_bytes(), [head("", length).into_bytes(), body].concat())
        }
        2 => {
            let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            ([request.into_bytes(), body.clone()].concat(), [head("", length).into_bytes(), body].concat())
        }
        3 => {
            let request = "POST /keep HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut chunked = request.as_bytes().to_vec();
            for piece in body.chunks(77) {
                chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                chunked.extend_from_slice(piece);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            (chunked, [head(TEXT, 4), "kept".into()].concat().into_bytes())
        }
        _ => {
            let mut answer = head(TEXT, number.to_string().len());
            let _ = write!(answer, "{number}");
            (format!("GET /count/{number} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(), answer.into_bytes())
        }
    }
}

pub(super) fn run(sim: &mut Sim<'_>) {
    let engine = http_engine(sim);
    // The timeouts are generous so that no response is cut off for slowness. Requests of peers that have vanished must
    // still end, which no idle timeout covers.
    let patience = Duration::from_mins(10);
    let limits = Limits { head_time: patience, body_time: patience, ..Limits::DEFAULT };
    let http = sim.engine(engine, |_poller| {
        Http::new()
            .limits(limits)
            .get("/count/{n}", |request, response| response.text(request.param("n")))
            .get("/big", |request, response| match request.query("bytes").map(str::parse) {
                Some(Ok(bytes)) => response.generate(bytes, letters),
                _ => response.generate(0, letters),
            })
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
            .post("/keep", |_request, response| response.text("kept"))
    });
    sim.listen(http, server(1));
    let peers = one_of(sim, &[15, 3, 40]).unwrap_or(15);
    let mut stubborn = Vec::new();
    for number in 0..peers {
        let mut script = Script::to(server(1)).after(a_while(sim, 200));
        let pipelines = sim.draw(2) == 1;
        for n in 0..=sim.draw(8) {
            let (request, answer) = exchange(sim, number * 100 + n);
            script = script.send(request);
            script = if pipelines { script.expect(answer) } else { script.receive(answer) };
        }
        match sim.draw(6) {
            1 => sim.peer(script.reset()),
            2 => {
                let bytes = u64::from(sim.draw(1_000));
                sim.peer(script.reset_after(bytes))
            }
            _ => {
                let peer =
                    sim.peer(script.half_close().until_end().retry(u32::MAX, Duration::from_millis(200)));
                stubborn.push(peer);
                peer
            }
        };
    }
    sim.finish();
    must_be_done(sim, &stubborn);
}
