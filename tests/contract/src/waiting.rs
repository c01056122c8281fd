//! Rules 15 to 19: when a wait ends.

use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::os::fd::AsFd;
use std::thread;

use lightcone_unix::clock::Clock;
use lightcone_unix::driver::{Driver, Event, Interest, Readiness};
use lightcone_unix::socket::{self, Sent};
use lightcone_unix::waker::Waker;

use crate::Watched;
use crate::sockets::{listen, pair, soon};

/// A timeout that is not expected to expire: a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(20);
const LONG_MS: u64 = 20_000;

fn span_ms(run: impl FnOnce()) -> u64 {
    let start = Clock::now_ms();
    run();
    Clock::now_ms() - start
}

/// Rule 16: a timeout is not shortened. The clock rounds down twice, so a span may appear one millisecond shorter.
pub fn a_timeout_is_not_cut_short<D: Driver>() {
    let mut driver = D::new(8).unwrap();
    for micros in [500, 1_500, 30_000, 30_100] {
        // forty in a row: rounding down would shorten them by 20 ms or more
        let times = if micros < 10_000 { 40 } else { 1 };
        let span = span_ms(|| {
            for _ in 0..times {
                let count =
                    driver.wait(Some(Duration::from_micros(micros)), &mut [Event::default(); 8]).unwrap();
                assert_eq!(count, 0);
            }
        });
        assert!((span + 1) * 1_000 >= micros * times, "{times} waits of {micros} µs took {span} ms");
        assert!(span < LONG_MS / 4, "{times} waits of {micros} µs took {span} ms");
    }
}

/// Rule 16: a timeout of zero does not wait.
pub fn zero_only_looks<D: Driver>() {
    let mut driver = D::new(8).unwrap();
    let span = span_ms(|| {
        for _ in 0..100 {
            assert_eq!(driver.wait(Some(Duration::ZERO), &mut [Event::default(); 8]), Ok(0));
        }
    });
    assert!(span < LONG_MS / 4, "{span} ms");
}

/// Rules 15 and 19: a wake-up ends a wait without a timeout.
pub fn a_wake_ends_a_wait_without_a_timeout<D: Driver>() {
    let mut driver = D::new(8).unwrap();
    for _ in 0..5 {
        let waker = driver.waker();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(5));
                waker.wake();
            });
            assert_eq!(driver.wait(None, &mut [Event::default(); 8]), Ok(0));
        });
    }
}

/// Rule 19: a wake-up before the wait ends it at once.
pub fn a_wake_before_the_wait_counts<D: Driver>() {
    let mut driver = D::new(8).unwrap();
    driver.waker().wake();
    assert!(span_ms(|| assert_eq!(driver.wait(Some(LONG), &mut [Event::default(); 8]), Ok(0))) < LONG_MS / 2);
    Watched::over(driver).expect_silence();
}

/// Rule 19: eight threads with a thousand wake-ups each end the next wait, and not the one after it.
pub fn many_wakes_end_one_wait<D: Driver>() {
    let mut driver = D::new(8).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            let waker = driver.waker();
            scope.spawn(move || (0..1_000).for_each(|_| waker.wake()));
        }
    });
    assert!(span_ms(|| assert_eq!(driver.wait(Some(LONG), &mut [Event::default(); 8]), Ok(0))) < LONG_MS / 2);
    Watched::over(driver).expect_silence();
}

/// Rules 13 and 19: wake-ups and events do not hide each other, even if only one event fits.
pub fn wakes_and_events_come_together<D: Driver>() {
    let (client, server) = pair(&listen("127.0.0.1:0"));
    let mut driver = D::new(1).unwrap();
    let waker = driver.waker();
    driver.register(server.as_fd(), 1, Interest::READ).unwrap();
    assert_eq!(socket::send(client.as_fd(), b"x"), Sent::Bytes(1));
    for _ in 0..10 {
        waker.wake();
        soon("event", || {
            let mut events = [Event::default(); 1];
            let count = driver.wait(Some(LONG), &mut events).unwrap();
            assert!(count == 0 || events[0] == Event { key: 1, readiness: Readiness::READ });
            (count == 1).then_some(())
        });
    }
    driver.deregister(server.as_fd(), 1, Interest::READ);
    // at most one wake-up is left, from a wait that had room for the socket only
    let _ = driver.wait(Some(Duration::ZERO), &mut [Event::default(); 8]).unwrap();
    Watched::over(driver).expect_silence();
}

/// Rule 19: a waker can be used after the end of its driver.
pub fn a_waker_outlives_its_driver<D: Driver>() {
    let driver = D::new(8).unwrap();
    let waker = driver.waker();
    drop(driver);
    // a reused descriptor number must not be written to
    let (client, server) = pair(&listen("127.0.0.1:0"));
    (0..10).for_each(|_| waker.wake());
    for fd in [&client, &server] {
        assert_eq!(socket::receive(fd.as_fd(), &mut [0; 16]), socket::Received::WouldBlock);
    }
    let other = D::new(8).unwrap();
    Watched::over(other).expect_silence();
}

/// The identity of a thread, a number or a pointer depending on the system. It is only passed back to the system.
#[derive(Clone, Copy)]
struct ThreadId(libc::pthread_t);

// SAFETY: `pthread_kill` accepts the identity of a living thread from any thread.
unsafe impl Send for ThreadId {}

impl ThreadId {
    const fn get(self) -> libc::pthread_t {
        self.0
    }
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// Installs a handler without `SA_RESTART`, so that the signal interrupts waiting calls.
fn interrupting_handler(signal: libc::c_int) {
    // SAFETY: a C struct of numbers, pointers and sets, all of which may be zero.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, which is allowed at any time.
    let installed = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert_eq!(installed, 0);
}

/// Rule 17: a signal ends the wait without events.
pub fn a_signal_ends_the_wait_without_events<D: Driver>() {
    interrupting_handler(libc::SIGUSR1);
    // SAFETY: takes no arguments and always succeeds.
    let waiting = ThreadId(unsafe { libc::pthread_self() });
    let mut driver = D::new(8).unwrap();
    let waker = driver.waker();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(5));
                // SAFETY: the thread is alive, because the end of the scope waits for this one, and the signal has a
                // handler.
                assert_eq!(unsafe { libc::pthread_kill(waiting.get(), libc::SIGUSR1) }, 0);
            }
            // the signals may all have arrived between two waits
            waker.wake();
        });
        assert_eq!(driver.wait(Some(LONG), &mut [Event::default(); 8]), Ok(0));
    });
}

/// A driver is `Send`: it can be created on one thread and used on another one, that of its poller.
pub fn a_driver_moves_to_its_thread<D: Driver>() {
    let mut driver = D::new(8).unwrap();
    let waker = driver.waker();
    let (client, server) = pair(&listen("127.0.0.1:0"));
    driver.register(server.as_fd(), 7, Interest::READ).unwrap();
    let events = thread::scope(|scope| {
        let poller = scope.spawn(move || {
            let mut watched = Watched::over(driver);
            watched.batch()
        });
        waker.wake();
        assert_eq!(socket::send(client.as_fd(), b"x"), Sent::Bytes(1));
        poller.join().unwrap()
    });
    assert_eq!(events, [(7, Readiness::READ)]);
}
