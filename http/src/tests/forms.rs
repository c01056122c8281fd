//! Forms that are read as they arrive, through a server: in pieces of any size, with a length and chunked.

extern crate std;

use std::format;
use std::string::String;

use lightcone_core::Handler;

use crate::{
    Exchange, Flow, FormError, FormPairs, Http, Multipart, MultipartEvent, RequestMessage, State, Transfer,
};

use super::rig::{Rig, ok, refusal};

/// Sums the lengths of names and of values.
struct Pairs {
    form: FormPairs<16>,
    lengths: (usize, usize),
}

/// Sums the lengths of names and of contents.
struct Parts {
    form: Multipart<80>,
    lengths: (usize, usize),
}

fn respond<S: State>(io: &mut Transfer<'_, S>, result: Result<(usize, usize), FormError>) -> Flow {
    io.respond(|_, response| match result {
        Ok((names, values)) => response.display(format_args!("{names} {values}")),
        Err(error) => response.refuse(error.status()),
    })
}

impl<S: State> Exchange<S> for Pairs {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        loop {
            let used = match self.form.next(io.body(), io.is_ended()) {
                Ok((Some(pair), used)) => {
                    self.lengths.0 += pair.name.len();
                    self.lengths.1 += pair.value.len();
                    used
                }
                Ok((None, _)) if io.is_ended() => return respond(io, Ok(self.lengths)),
                Ok((None, 0)) => return Flow::More,
                Ok((None, used)) => used,
                Err(error) => return respond(io, Err(error)),
            };
            io.consume(used);
        }
    }
}

impl<S: State> Exchange<S> for Parts {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        loop {
            let (event, used) = match self.form.next(io.body(), io.is_ended()) {
                Ok(step) => step,
                Err(error) => return respond(io, Err(error)),
            };
            match event {
                Some(MultipartEvent::Part(head)) => self.lengths.0 += head.name().len(),
                Some(MultipartEvent::Data(data)) => self.lengths.1 += data.len(),
                Some(MultipartEvent::PartEnd | MultipartEvent::End) => {}
                None if io.is_ended() => return respond(io, Ok(self.lengths)),
                None if used == 0 => return Flow::More,
                None => {}
            }
            io.consume(used);
        }
    }
}

fn rig() -> Rig<impl Handler<Message = RequestMessage<<() as State>::Message>>> {
    let app = Http::new()
        .get("/", |_request, response| response.text("in"))
        .post("/pairs", |_request, response| {
            response.defer(Pairs { form: FormPairs::new(3), lengths: (0, 0) })
        })
        .post("/parts", |request, response| {
            match request.header("content-type").and_then(|value| Multipart::new(value.as_bytes(), 2)) {
                Some(form) => response.defer(Parts { form, lengths: (0, 0) }),
                None => response.refuse(415).into_any(),
            }
        });
    Rig::untimed(app)
}

/// Returns requests with this body: with a length, and chunked in pieces of several sizes.
fn requests(path: &str, body: &str) -> [String; 4] {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\n");
    let chunked = |size: usize| {
        let mut request = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(size) {
            request += &format!("{:x}\r\n{}\r\n", piece.len(), str::from_utf8(piece).unwrap());
        }
        request + "0\r\n\r\n"
    };
    [format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()), chunked(1), chunked(7), chunked(1_000)]
}

fn answers(path: &str, body: &str, expected: &str) {
    for request in requests(path, body) {
        let whole = format!("{request}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut rig = rig();
        for cut in [1, 2, 3, 5, 17, whole.len()] {
            let peer = rig.connect();
            rig.peers[peer].cut = cut;
            rig.send(peer, whole.as_bytes());
            assert_eq!(rig.take(peer), format!("{expected}{}", ok("in")), "in pieces of {cut}: {request}");
            rig.end(peer);
        }
    }
}

#[test]
fn forms_are_read_whatever_the_cut() {
    answers("/pairs", "", &ok("0 0"));
    answers("/pairs", "a=1&bc=%41%42%43&d", &ok("4 4"));
    let part = |name: &str, content: &str| {
        format!("--B\r\nContent-Disposition: form-data; name={name}\r\n\r\n{content}\r\n")
    };
    let form = format!("{}{}--B--\r\n", part("a", "\r\n--A\r\n"), part("bc", ""));
    answers("/parts", &form, &ok("3 7"));
    answers("/parts", "--B--", &ok("0 0"));
}

#[test]
fn what_is_no_form_is_refused_and_the_connection_goes_on() {
    answers("/pairs", "a=%4", &refusal("400 Bad Request", ""));
    answers("/pairs", "a&b&c&d", &refusal("413 Content Too Large", ""));
    answers("/pairs", "12345678=123456789", &refusal("413 Content Too Large", ""));
    answers("/parts", "", &refusal("400 Bad Request", ""));
    answers("/parts", "--B\r\nX: y\r\n\r\nabc", &refusal("400 Bad Request", ""));
    let part = "--B\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n";
    answers("/parts", part, &refusal("400 Bad Request", ""));
    answers("/parts", &format!("{part}{part}{part}--B--"), &refusal("413 Content Too Large", ""));
}
