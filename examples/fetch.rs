//! Fetches a resource over HTTP/1.1 and writes it to the standard output, like `curl` with its most used options.
//!
//! ```sh
//! cargo run -p lightcone-examples --example httpd        # in another terminal
//! cargo run -p lightcone-examples --example fetch -- -i http://127.0.0.1:8080/foo
//! cargo run -p lightcone-examples --example fetch -- -d 'some text' -H 'Content-Type: text/plain' http://127.0.0.1:8080/echo
//! ```
//!
//! The exit status is 0 if the server has responded, with whatever status, and 1 otherwise.

use core::time::Duration;
use std::io::{self, Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use lightcone::fetch::{Request, RequestFailed};
use lightcone::http::Method;
use lightcone::http::client::ClientLimits;
use lightcone_examples::within;

/// Fetches a resource over HTTP/1.1 and writes it to the standard output.
#[derive(Parser, Debug)]
#[command(name = "fetch", version)]
struct Options {
    /// URI of the resource, such as `http://127.0.0.1:8080/path?query`.
    uri: String,

    /// Method: GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE or PATCH [default: GET, or POST with --data].
    #[arg(short = 'X', long, value_name = "METHOD", value_parser = method)]
    request: Option<Method>,

    /// Send this text as the body.
    #[arg(short, long, value_name = "TEXT")]
    data: Option<String>,

    /// Send this field; can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(String, String)>,

    /// Write the head of the response as well.
    #[arg(short, long)]
    include: bool,

    /// Ask for the head alone, with the method HEAD, and write it.
    #[arg(short = 'I', long)]
    head: bool,

    /// Follow redirects.
    #[arg(short = 'L', long)]
    location: bool,

    /// How many redirects are followed with --location.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, allow_negative_numbers = true, value_parser = within::<u8>(1..=255))]
    max_redirs: u8,

    /// Seconds that a connect may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    connect_timeout: u64,

    /// Seconds that the whole exchange may take, with all redirects [default: no limit].
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    max_time: Option<u64>,
}

fn method(name: &str) -> Result<Method, String> {
    let method = Method::from_bytes(name.as_bytes()).filter(|method| *method != Method::Connect);
    method.ok_or_else(|| "allowed: GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, PATCH".into())
}

fn field(line: &str) -> Result<(String, String), String> {
    let parts = line.split_once(':').map(|(name, value)| (name.into(), value.trim().into()));
    parts.ok_or_else(|| "allowed: NAME: VALUE".into())
}

fn fetch(options: Options) -> Result<(), RequestFailed> {
    let default = match (options.head, &options.data) {
        (true, _) => Method::Head,
        (false, Some(_)) => Method::Post,
        (false, None) => Method::Get,
    };
    let limits =
        ClientLimits { total_time: options.max_time.map(Duration::from_secs), ..ClientLimits::DEFAULT };
    let mut request = Request::new(options.request.unwrap_or(default), options.uri)
        .limits(limits)
        .connect_time(Duration::from_secs(options.connect_timeout))
        .redirects(if options.location { options.max_redirs } else { 0 });
    for (name, value) in options.headers {
        request = request.field(name, value);
    }
    if let Some(data) = options.data {
        request = request.body(data);
    }
    let include = options.include || options.head;
    request.send_to(
        stdout(),
        move |response| {
            if include { stdout().write_all(&response.head) } else { Ok(()) }
        },
    )?;
    Ok(())
}

fn main() -> ExitCode {
    match fetch(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // such as `fetch .. | head`
        Err(RequestFailed::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "fetch: {error}");
            ExitCode::FAILURE
        }
    }
}
