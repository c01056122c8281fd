//! The life of a server: start, listen, run until a signal, report.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use lightcone::metrics::Metrics;
use lightcone::workers::Offloaded;
use lightcone::{
    Builder, Engine, Error, Handler, PollerContext, Report, drain_on_signals, hand_over_on_signal,
    inherited_listeners, notify_ready,
};

use crate::options::{Drain, ServerOptions, UsageError};

/// The maximum number of connections of all workers, unless the command line sets a limit; further connections are
/// turned away.
const WORKER_SOCKETS: usize = 65_536;

/// The exit code for an invalid command line, as opposed to a refusal by the system.
const EXIT_USAGE: u8 = 2;

/// Runs a server until `SIGINT` or `SIGTERM`, and prints the result.
///
/// The first line on standard output is `listening on ` with the address (after `scheme` unless it is a path), printed
/// once connections are accepted; the last line is the report. Signals have the effects of [`drain_on_signals`] and
/// [`hand_over_on_signal`]. Sockets that the process has inherited are used in place of the address in the options.
/// Errors and notes go to standard error; after an error the exit code is 2 for invalid settings and 1 for a refusal by
/// the system.
pub fn serve<H>(
    options: &ServerOptions,
    scheme: &str,
    refine: impl FnOnce(Builder) -> Result<Builder, UsageError>,
    make: impl Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
) -> ExitCode
where
    H: Handler<Message: Send> + 'static,
{
    // Before the engine starts threads, because it changes the environment.
    let result = inherited_listeners().map_err(Failure::from).and_then(|inherited| {
        let engine = start(options, refine, make)?;
        run(engine, inherited, options, scheme)
    });
    match result {
        Ok(report) => {
            print_line(&report.to_string());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Runs a server as [`serve`] does, with its handlers on `count` worker threads, and adds its engine to `metrics`.
pub fn serve_on_workers<H>(
    options: &ServerOptions,
    scheme: &str,
    count: usize,
    refine: impl FnOnce(Builder) -> Result<Builder, UsageError>,
    metrics: Metrics,
    make: impl Fn(usize) -> H + Send + Sync + 'static,
) -> ExitCode
where
    H: Handler<Data: Send, Message: Send + 'static> + 'static,
{
    let sockets = options.max_connections.unwrap_or(WORKER_SOCKETS).min(lightcone::workers::SOCKETS_MAX);
    let workers = lightcone::workers::Builder::new().workers(count).sockets(sockets);
    let workers = match workers.start(make) {
        Ok(workers) => workers,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let offload = workers.offload();
    let code = serve(options, scheme, refine, move |poller: PollerContext<Offloaded<H::Message>>| {
        metrics.observe(poller.handle()); // before the first connection is accepted
        offload(poller)
    });
    // The sockets of the workers have ended with the engine, but some callbacks may still be running.
    print_line(&workers.shutdown(options.grace()).to_string());
    code
}

fn start<H>(
    options: &ServerOptions,
    refine: impl FnOnce(Builder) -> Result<Builder, UsageError>,
    make: impl Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
) -> Result<Engine<H::Message>, Failure>
where
    H: Handler<Message: Send> + 'static,
{
    let builder = refine(options.builder()?)?;
    let engine = options.driver.start(builder, make)?;
    if let Some(shortage) = engine.descriptor_shortage() {
        eprintln!("note: {shortage}");
    }
    Ok(engine)
}

fn run<M: Send + 'static>(
    engine: Engine<M>,
    inherited: Vec<OwnedFd>,
    options: &ServerOptions,
    scheme: &str,
) -> Result<Report, Failure> {
    // Before the address is printed: anyone who knows it may already send signals.
    let Drain { readiness, delay } = options.drain.clone();
    drain_on_signals(engine.handle(), readiness, delay, options.grace())?;
    let inherited = inherited.into_iter().map(|socket| engine.listen_on(socket));
    let mut listeners = inherited.collect::<Result<Vec<_>, _>>()?;
    if listeners.is_empty() {
        listeners.push(engine.listen(&options.listen)?);
    }
    let endpoints: Vec<_> = listeners.iter().map(|listener| listener.endpoint().clone()).collect();
    hand_over_on_signal(engine.handle(), options.grace(), listeners, |started| match started {
        Ok(successor) => print_line(&format!("handed over to process {}", successor.id())),
        Err(error) => eprintln!("error: cannot hand over: {error}"),
    })?;
    for endpoint in endpoints {
        let scheme = if endpoint.as_inet().is_some() { scheme } else { "" }; // no client expects a scheme before a path
        print_line(&format!("listening on {scheme}{endpoint}"));
    }
    notify_ready()?;
    Ok(engine.join())
}

/// Prints a line on standard output and flushes it. A closed output is no reason to stop serving, so errors are
/// ignored.
pub fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Why the server could not start: the message and the exit code.
struct Failure {
    text: String,
    code: u8,
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self { text: error.to_string(), code: EXIT_USAGE }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let usage = matches!(
            error,
            Error::Pollers(_)
                | Error::Sockets(_)
                | Error::Mailbox(_)
                | Error::Config(_)
                | Error::Balance(_)
                | Error::Endpoint(_)
        );
        Self { text: error.to_string(), code: if usage { EXIT_USAGE } else { 1 } }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { text: error.to_string(), code: 1 }
    }
}
