//! Uses http, so that its code is in the program and not merely among the dependencies.

use lightcone_http::Http;

use crate::connection::play;

/// Returns whether http works here.
pub fn works() -> bool {
    requests_are_answered().is_some() && what_is_no_request_is_refused().is_some()
}

/// Sends two requests to two routes, one of them split in the middle of its head.
fn requests_are_answered() -> Option<()> {
    let http = Http::new()
        .get("/foo", |_request, response| response.text("bar"))
        .get("/users/{id}", |request, response| response.display(request.param("id")));
    let mut heard = [0; 1024];
    let pieces: [&[u8]; 2] = [
        b"GET /foo HTTP/1.1\r\nHost: device\r\n\r\nGET /users/9 HTTP/1.1\r\nHo",
        b"st: device\r\nConnection: close\r\n\r\n",
    ];
    let told = play(http, &pieces, &mut heard)?;
    let heard = heard.get(..told)?;
    (heard.starts_with(b"HTTP/1.1 200 ")
        && contains(heard, b"\r\n\r\nbarHTTP/1.1 200 ")
        && heard.ends_with(b"\r\n\r\n9"))
    .then_some(())
}

fn what_is_no_request_is_refused() -> Option<()> {
    let http = Http::new().get("/foo", |_request, response| response.text("bar"));
    let mut heard = [0; 1024];
    let told = play(http, &[b"GET  /foo HTTP/1.1\nHost: device\n\n"], &mut heard)?;
    heard.get(..told)?.starts_with(b"HTTP/1.1 400 ").then_some(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
