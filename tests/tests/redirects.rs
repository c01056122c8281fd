//! Redirects that a blocking request follows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "as in every test: a failure is a panic")]

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;

use lightcone::endpoint::Endpoint;
use lightcone::fetch::{Request, RequestFailed};
use lightcone::http::client::{ClientLimits, RedirectError};
use lightcone::http::{Http, Method, RequestMessage};
use lightcone::{Builder, Engine};

type Server = Engine<RequestMessage<Infallible>>;

/// Starts a server with two addresses, which are two origins.
fn server() -> (Server, [SocketAddr; 2]) {
    let engine = Builder::new().pollers(1).start(|_poller| {
        let describe = |request: &lightcone::http::Request<'_, ()>| {
            let fields =
                ["authorization", "cookie", "content-type", "x-own"].map(|name| request.header(name));
            format!("{} {} {fields:?}", request.method(), request.path())
        };
        Http::new()
            .get("/see", move |request, response| response.text(&describe(&request)))
            .get("/a/b/up", |_request, response| response.redirect("../see/../../see?x#y"))
            .get("/count/{n}", |request, response| match request.param("n").parse::<u32>() {
                Ok(0) | Err(_) => response.redirect("/see"),
                Ok(n) => response.status(307).redirect(format_args!("{}", n - 1)),
            })
            .get("/loop", |_request, response| response.status(302).redirect("/loop/back"))
            .get("/loop/back", |_request, response| response.status(301).redirect("../loop"))
            .get("/tls", |_request, response| response.status(308).redirect("https://a.example/"))
            .get("/none", |_request, response| response.status(302).text("no location"))
            .get("/twice", |_request, response| response.header("Location", "/see").redirect("/none"))
            // The rest of a response that redirects is not read.
            .get("/long", |_request, response| {
                response
                    .status(302)
                    .header("Location", "/see")
                    .generate(10_000_000, |_offset, piece| piece.fill(b'x'))
            })
            .get("/to/{port}", |request, response| {
                response.redirect(format_args!("http://127.0.0.1:{}/see", request.param("port")))
            })
            .post("/303", |_request, response| response.redirect("/see"))
            .post("/301", |_request, response| response.status(301).redirect("/see"))
            .post("/307", |_request, response| response.status(307).redirect("/body"))
            .post("/body", move |request, response| {
                let head = describe(&request);
                request.gather(response, move |_state, body, response| {
                    response.display(format_args!("{head} {}", String::from_utf8_lossy(body)))
                })
            })
    });
    let engine = engine.unwrap();
    let addresses = [(); 2].map(|()| {
        let listener = engine.listen("127.0.0.1:0").unwrap();
        let Endpoint::Inet(address) = *listener.endpoint() else { panic!("an address of TCP") };
        address
    });
    (engine, addresses)
}

#[test]
fn the_request_that_follows() {
    let (_server, [one, two]) = server();
    let send = |method, path: &str| {
        let request = Request::new(method, format!("http://{one}{path}"))
            .field("Authorization", "Basic YTpi")
            .field("Cookie", "a=b")
            .field("X-Own", "1");
        let request = if method == Method::Post {
            request.field("Content-Type", "text/plain").body("some text")
        } else {
            request
        };
        let response = request.redirects(10).send().unwrap();
        (response.status.code(), response.text().into_owned())
    };
    let all = r#"[Some("Basic YTpi"), Some("a=b"), None, Some("1")]"#;
    let posted = r#"[Some("Basic YTpi"), Some("a=b"), Some("text/plain"), Some("1")]"#;
    let stripped = r#"[None, None, None, Some("1")]"#;
    let table = [
        (Method::Get, "/see".to_owned(), format!("GET /see {all}")),
        (Method::Get, "/a/b/up".to_owned(), format!("GET /see {all}")),
        (Method::Get, "/count/8".to_owned(), format!("GET /see {all}")),
        (Method::Get, "/long".to_owned(), format!("GET /see {all}")),
        (Method::Get, format!("/to/{}", two.port()), format!("GET /see {stripped}")),
        (Method::Post, "/303".to_owned(), format!("GET /see {all}")),
        (Method::Post, "/301".to_owned(), format!("GET /see {all}")),
        (Method::Post, "/307".to_owned(), format!("POST /body {posted} some text")),
    ];
    for (method, path, expected) in table {
        assert_eq!(send(method, &path), (200, expected), "{method} {path}");
    }
    // Without a location, or with two, the response is the last.
    assert_eq!(send(Method::Get, "/none"), (302, "no location".to_owned()));
    assert_eq!(send(Method::Get, "/twice").0, 303);
}

#[test]
fn what_is_not_followed() {
    let (_server, [one, _]) = server();
    let send =
        |path: &str, most| Request::new(Method::Get, format!("http://{one}{path}")).redirects(most).send();
    // By default, none is.
    assert_eq!(send("/loop", 0).unwrap().field("location"), Some("/loop/back"));
    let table = [
        ("/loop", 10, format!("redirected in a loop, back to \"http://{one}/loop\"")),
        ("/count/1", 1, "redirected more than 1 times".to_owned()),
        ("/count/10", 10, "redirected more than 10 times".to_owned()),
        ("/tls", 10, "redirected to \"https://a.example/\", which needs TLS".to_owned()),
    ];
    for (path, most, expected) in table {
        let error = send(path, most).unwrap_err();
        assert!(matches!(error, RequestFailed::Redirect(_)), "{error}");
        assert_eq!(error.to_string(), expected, "{path}");
    }
    assert!(matches!(send("/tls", 1), Err(RequestFailed::Redirect(RedirectError::Https(_)))));
    assert_eq!(send("/count/1", 2).unwrap().status.code(), 200);
}

/// The head and the body of a response that redirects do not reach the receiver of the response.
#[test]
fn only_the_last_response_is_received() {
    let (_server, [one, _]) = server();
    let (heads, seen) = channel();
    let request = Request::new(Method::Get, format!("http://{one}/long")).redirects(1);
    let response = request.send_to(std::io::sink(), move |response| {
        let _ = heads.send(response.status.code());
        Ok(())
    });
    assert_eq!(response.unwrap().status.code(), 200);
    assert_eq!(seen.iter().collect::<Vec<_>>(), [200]);
}

/// The rest of a response whose redirect is refused may never come: the limits here are longer than the test may take.
#[test]
fn a_redirect_is_refused_before_its_body_has_come() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let hour = Duration::from_secs(3_600);
    let limits = ClientLimits { body_time: hour, ..ClientLimits::DEFAULT };
    let error = std::thread::scope(|scope| {
        let request = Request::new(Method::Get, uri).limits(limits).redirects(1);
        let client = scope.spawn(move || request.send().unwrap_err());
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(hour)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: https://a/\r\nContent-Length: 5\r\n\r\n").unwrap();
        client.join().unwrap() // the connection is open until then
    });
    assert!(matches!(error, RequestFailed::Redirect(RedirectError::Https(_))), "{error}");
}
