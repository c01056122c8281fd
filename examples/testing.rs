//! A server with tests that need no sockets: `cargo test --example testing` runs them.
//!
//! The tests at the end run the server with the real parser on the real poller, but with connections and time in
//! memory. The server itself runs as usual:
//!
//! ```sh
//! cargo run --example testing
//! curl -d 'buy milk' http://127.0.0.1:8080/notes
//! curl http://127.0.0.1:8080/notes/0
//! ```

use core::convert::Infallible;

use lightcone::http::{Http, State};
use lightcone::{Builder, Error, Handler};

/// The notes of one poller.
struct Notes(Vec<String>);

impl State for Notes {
    type Message = Infallible;
}

fn server() -> impl Handler<Message = impl Send> {
    Http::with(Notes(Vec::new()))
        .post("/notes", |request, response| {
            request.collect::<80, _>(response, |notes: &mut Notes, body, response| {
                let Ok(note) = core::str::from_utf8(body) else {
                    return response.status(400).text("not UTF-8\n");
                };
                notes.0.push(note.into());
                response.status(201).header("Location", format_args!("/notes/{}", notes.0.len() - 1)).empty()
            })
        })
        .get("/notes/{number}", |request, response| {
            match request.parse_param::<usize>("number").map(|number| request.state.0.get(number)) {
                Ok(Some(note)) => response.text(note),
                Ok(None) => response.refuse(404),
                Err(error) => response.bad_parameter(&error),
            }
        })
}

fn main() -> Result<(), Error> {
    let engine = Builder::new().pollers(1).start(|_poller| server())?;
    engine.listen("127.0.0.1:8080")?;
    engine.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use lightcone::http::testing::{TestRequest, TestServer};

    use super::server;

    #[test]
    fn a_note_can_be_read_after_it_was_added() {
        let mut server = TestServer::new(server());
        assert_eq!(server.get("/notes/0").status(), 404);
        let added = server.request(TestRequest::new("POST", "/notes").body("buy milk"));
        assert_eq!((added.status(), added.header("Location")), (201, Some("/notes/0")));
        assert_eq!(server.get("/notes/0").text(), "buy milk");
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let mut server = TestServer::new(server());
        for (body, status) in [(&b"\xff"[..], 400), (&[b'a'; 81], 413), (&[b'a'; 80], 201)] {
            assert_eq!(server.request(TestRequest::new("POST", "/notes").body(body)).status(), status);
        }
        let bad = server.get("/notes/first");
        assert_eq!(
            (bad.status(), bad.text()),
            (400, "the parameter number is invalid: invalid digit found in string\n")
        );
    }

    #[test]
    fn a_client_that_sends_nothing_is_disconnected() {
        let mut server = TestServer::new(server());
        let connection = server.connect();
        server.advance(Duration::from_secs(29));
        assert!(!server.is_ended(connection));
        server.advance(Duration::from_secs(2));
        assert!(server.is_ended(connection));
    }
}
