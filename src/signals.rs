//! The shutdown of an engine by signals.

use core::time::Duration;
use std::{io, process, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{Handle, Readiness};

/// The interval of checks for another signal while a stop is delayed.
const LOOK: Duration = Duration::from_millis(20);

/// Shuts an engine down when the process receives `SIGINT` or `SIGTERM`. From this call on, these two no longer end the
/// process by themselves.
///
/// | signal | effect |
/// | --- | --- |
/// | the first | [`Handle::shutdown`] with the grace time |
/// | the second | [`Handle::shutdown`] without grace time: connections end at once |
/// | the third | the process exits with code 1, although a callback may still run |
///
/// Both signals count together. The same signal sent again before it was noticed counts once.
///
/// ```no_run
/// use core::time::Duration;
/// use lightcone::http::Http;
/// use lightcone::{Builder, shutdown_on_signals};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let engine = Builder::new()
///         .start(|_poller| Http::new().get("/", |_request, response| response.text("hello")))?;
///     shutdown_on_signals(engine.handle(), Duration::from_secs(5))?;
///     engine.listen("127.0.0.1:8080")?;
///     println!("{}", engine.join());
///     Ok(())
/// }
/// ```
///
/// The caller [joins](crate::Engine::join) the engine, shuts down workers after it if there are any, and ends the
/// process: a signal does not return from `main`. Call this before the program reports that it is ready, because
/// signals may arrive from then on. A program with several engines calls it once for each. Other signals keep their
/// effect.
///
/// A thread named `lightcone-signals` waits for the signals until the process ends, and keeps the handle for as long.
/// It takes no processor time while it waits.
///
/// # Errors
///
/// If the system refuses the signals' handlers or the thread.
pub fn shutdown_on_signals<M: Send + 'static>(engine: Handle<M>, grace: Duration) -> io::Result<()> {
    drain_on_signals(engine, Readiness::new(), Duration::ZERO, grace)
}

/// Shuts an engine down like [`shutdown_on_signals`], after a delay in which a load balancer can notice that the server
/// is [not ready](Readiness) any more.
///
/// | signal | effect |
/// | --- | --- |
/// | the first | the readiness is withdrawn, and the server goes on serving; after the delay, [`Handle::shutdown`] with the grace time |
/// | the second | [`Handle::shutdown`] without grace time: connections end at once, also during the delay |
/// | the third | the process exits with code 1, although a callback may still run |
///
/// The delay should be a little longer than the balancer takes to notice: the interval of its checks times the number
/// of checks that must fail. The thread looks for another signal every 20 ms while the delay lasts.
///
/// ```no_run
/// use core::time::Duration;
/// use lightcone::http::Http;
/// use lightcone::{Builder, Readiness, drain_on_signals};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let readiness = Readiness::new();
///     let ours = readiness.clone();
///     let engine = Builder::new().start(move |_poller| {
///         let readiness = readiness.clone();
///         Http::new().get("/ready", move |_request, response| match readiness.is_ready() {
///             true => response.text("ready\n"),
///             false => response.status(503).text("stopping\n"),
///         })
///     })?;
///     drain_on_signals(engine.handle(), ours, Duration::from_secs(10), Duration::from_secs(5))?;
///     engine.listen("127.0.0.1:8080")?;
///     println!("{}", engine.join());
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// If the system refuses the signals' handlers or the thread.
pub fn drain_on_signals<M: Send + 'static>(
    engine: Handle<M>,
    readiness: Readiness,
    delay: Duration,
    grace: Duration,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let obey = move || {
        // How many signals have come, and what is left of the delay.
        let (mut seen, mut left) = (0, delay);
        loop {
            if seen == 1 && !left.is_zero() {
                let pause = left.min(LOOK);
                thread::sleep(pause);
                left -= pause;
                seen += signals.pending().count();
            } else {
                seen += signals.wait().count();
            }
            if seen > 0 {
                readiness.withdraw();
            }
            match seen {
                0 => {}
                1 if !left.is_zero() => {}
                1 => engine.shutdown(grace),
                2 => engine.shutdown(Duration::ZERO),
                _ => process::exit(1),
            }
        }
    };
    thread::Builder::new().name("lightcone-signals".into()).spawn(obey).map(drop)
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc::{Sender, channel};

    use signal_hook::low_level::raise;

    use super::*;
    use crate::tests::alone::{exit_code, is_alone};
    use crate::{Address, Builder, Context, Engine, Handler, Origin, Socket};

    /// Reports its events. `receive` never returns.
    struct Reporter(Sender<&'static str>);

    impl Handler for Reporter {
        type Data = ();
        type Message = Infallible;

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
            socket.send(b"open").unwrap();
        }

        fn receive(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
            self.0.send("receive").unwrap();
            loop {
                thread::park();
            }
        }

        fn shutdown(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
            self.0.send("shutdown").unwrap(); // and stays open, unlike the default
        }
    }

    /// Starts an engine that ends by signals, with one connection that is open.
    fn engine(reports: Sender<&'static str>, grace: Duration) -> (Engine, TcpStream) {
        draining(reports, Readiness::new(), Duration::ZERO, grace)
    }

    /// Starts such an engine with a delay in front of its end.
    fn draining(
        reports: Sender<&'static str>,
        readiness: Readiness,
        delay: Duration,
        grace: Duration,
    ) -> (Engine, TcpStream) {
        let start = Builder::new().pollers(1).sockets(4);
        let engine = start.start(move |_poller| Reporter(reports.clone())).unwrap();
        drain_on_signals(engine.handle(), readiness, delay, grace).unwrap();
        let listener = engine.listen("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.endpoint().as_inet().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        (engine, stream)
    }

    #[test]
    fn the_first_signal_leaves_time_and_the_second_does_not() {
        if !is_alone() {
            assert_eq!(
                exit_code("signals::tests::the_first_signal_leaves_time_and_the_second_does_not"),
                Some(0)
            );
            return;
        }
        let (sender, events) = channel();
        let (engine, _stream) = engine(sender, Duration::from_hours(1));
        raise(SIGTERM).unwrap();
        assert_eq!(events.recv_timeout(Duration::from_secs(30)).unwrap(), "shutdown");
        raise(SIGINT).unwrap();
        let report = engine.join();
        assert_eq!((report.opened(), report.aborted()), (1, 1));
    }

    fn wait_until_withdrawn(readiness: &Readiness) {
        let withdrawn = (0..3_000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            !readiness.is_ready()
        });
        assert!(withdrawn, "the readiness is never withdrawn");
    }

    #[test]
    fn during_the_delay_the_server_serves_until_a_second_signal() {
        if !is_alone() {
            let name = "signals::tests::during_the_delay_the_server_serves_until_a_second_signal";
            assert_eq!(exit_code(name), Some(0));
            return;
        }
        let ((sender, events), readiness) = (channel(), Readiness::new());
        let hour = Duration::from_hours(1);
        let (engine, stream) = draining(sender, readiness.clone(), hour, hour);
        assert!(readiness.is_ready());
        raise(SIGTERM).unwrap();
        wait_until_withdrawn(&readiness);
        // it still accepts, and no socket is notified of a shutdown
        let mut other = TcpStream::connect(stream.peer_addr().unwrap()).unwrap();
        other.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        other.read_exact(&mut [0; 4]).unwrap();
        assert!(events.try_recv().is_err());
        raise(SIGTERM).unwrap();
        let report = engine.join();
        assert_eq!((report.opened(), report.aborted()), (2, 2));
    }

    #[test]
    fn after_the_delay_the_grace_time_begins() {
        if !is_alone() {
            assert_eq!(exit_code("signals::tests::after_the_delay_the_grace_time_begins"), Some(0));
            return;
        }
        let ((sender, events), readiness) = (channel(), Readiness::new());
        let delay = Duration::from_millis(50);
        let (engine, stream) = draining(sender, readiness.clone(), delay, Duration::from_hours(1));
        raise(SIGINT).unwrap();
        assert_eq!(events.recv_timeout(Duration::from_secs(30)).unwrap(), "shutdown");
        assert!(!readiness.is_ready());
        drop(stream); // the last connection ends within the grace time
        let report = engine.join();
        assert_eq!((report.opened(), report.aborted()), (1, 0));
    }

    #[test]
    fn the_third_signal_ends_the_process_despite_a_callback() {
        if !is_alone() {
            assert_eq!(
                exit_code("signals::tests::the_third_signal_ends_the_process_despite_a_callback"),
                Some(1)
            );
            return;
        }
        let (sender, events) = channel();
        let (engine, mut stream) = engine(sender, Duration::ZERO);
        stream.write_all(b"block").unwrap();
        assert_eq!(events.recv_timeout(Duration::from_secs(30)).unwrap(), "receive");
        // A failed assertion would end the process with code 101.
        thread::scope(|scope| {
            let signals = || loop {
                raise(SIGTERM).unwrap();
                thread::sleep(Duration::from_millis(10));
            };
            thread::Builder::new().spawn_scoped(scope, signals).unwrap();
            engine.join();
        });
    }
}
