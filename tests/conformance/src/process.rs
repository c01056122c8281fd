//! Descriptors, signals and processor time. These concern the whole process, so each case runs in a separate one.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::fs::Permissions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use lightcone_contract::sockets::soon;
use lightcone_core::Timeouts;
use lightcone_unix::address::SocketAddress;
use lightcone_unix::clock::Clock;
use lightcone_unix::driver::Driver;
use lightcone_unix::limits::DescriptorLimit;
use lightcone_unix::socket::{self, Connecting, KeepAlive, Received, Sent};

use crate::alone::skip;
use crate::case::{Case, Event, by_default, echoing, small};
use crate::peer::{Peer, pattern};
use crate::system;

/// Every descriptor that the engine opens is closed on exec.
pub fn every_descriptor_is_closed_on_exec<D: Driver>() {
    let before = system::descriptors();
    let case = Case::start(small::<D>().pollers(2), echoing);
    let listeners = [case.listen(), case.listen_unix()];
    let (elsewhere, address) = crate::connecting::elsewhere();
    case.handle().connect(address, 1).unwrap();
    let _accepted = Peer::accept(&elsewhere);
    let mut peers = listeners.each_ref().map(|listener| Peer::connect(listener.endpoint()));
    peers.iter_mut().for_each(|peer| peer.exchange(b"hello"));
    let now = system::descriptors();
    assert!(now.len() >= before.len() + 2 + 2 + 2 + 3, "{now:?}");
    for (fd, flags) in now {
        let is_ours = !before.iter().any(|(old, _)| *old == fd);
        assert!(!is_ours || flags & libc::FD_CLOEXEC != 0, "descriptor {fd} is inherited");
    }
}

/// The builder's socket options are set: `TCP_NODELAY` on every socket, keep-alive on accepted sockets only.
pub fn options_reach_every_socket<D: Driver>() {
    let keep_alive = KeepAlive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 3 };
    for (nodelay, keep_alive) in [(true, None), (false, Some(keep_alive))] {
        let case = Case::start(small::<D>().nodelay(nodelay).keep_alive(keep_alive), echoing);
        let (elsewhere, address) = crate::connecting::elsewhere();
        let before: Vec<_> = system::descriptors().into_iter().map(|(fd, _)| fd).collect();
        case.handle().connect(address, 1).unwrap();
        let mut peers = [case.peer(), Peer::accept(&elsewhere)];
        peers.iter_mut().for_each(|peer| peer.exchange(b"hello"));
        let ours =
            |fd: &i32| !before.contains(fd) && !peers.iter().any(|peer| peer.as_fd().as_raw_fd() == *fd);
        let fds: Vec<_> = system::descriptors().into_iter().map(|(fd, _)| fd).filter(ours).collect();
        let each = |level, name| fds.iter().filter_map(move |fd| system::option(*fd, level, name));
        assert!(each(libc::IPPROTO_TCP, libc::TCP_NODELAY).eq([nodelay; 2]));
        let asks = each(libc::SOL_SOCKET, libc::SO_KEEPALIVE).filter(|it| *it).count();
        assert_eq!(asks, usize::from(keep_alive.is_some()));
    }
}

/// A thousand connects, closes, resets and refusals leave no descriptor open, and a stopped engine leaves none at all.
pub fn no_descriptor_is_left_open<D: Driver>() {
    let before = system::descriptors().len();
    let case = Case::start(small::<D>().pollers(2), echoing);
    case.trace.keep_ends_only();
    let listener = case.listen();
    Peer::connect(listener.endpoint()).exchange(b"warm");
    // the descriptor is closed after the callback, and the slot is freed after that
    soon("the first end", || {
        (case.trace.count("close") == 1 && case.handle().loads() == [0, 0]).then_some(())
    });
    let running = system::descriptors().len();
    let nowhere = crate::connecting::nowhere();
    for n in 0..1_000 {
        let mut peer = Peer::connect(listener.endpoint());
        match n % 3 {
            0 => drop(peer),
            1 => peer.reset(),
            _ => peer.exchange(b"hello"),
        }
        if n % 4 == 0 {
            soon("room", || case.handle().connect(nowhere, 1).ok());
        }
    }
    case.trace.until_count("refused", 250);
    let ends = || case.trace.count("close") == case.trace.count("open") && case.trace.count("open") >= 900;
    soon("all ends", || ends().then_some(()));
    soon("all descriptors", || (system::descriptors().len() == running).then_some(()));
    let listeners: Vec<_> = (0..20).map(|_| case.listen()).collect();
    listeners.iter().for_each(|listener| listener.close().unwrap());
    soon("the listeners' descriptors", || (system::descriptors().len() == running).then_some(()));
    drop((listener, listeners)); // handles of listeners keep the wakers open
    case.stop();
    assert_eq!(system::descriptors().len(), before);
}

/// Creates sockets for later connects, while there still are descriptors.
fn unconnected(case: &Case, count: usize) -> (SocketAddress, Vec<OwnedFd>) {
    let listener = case.listen();
    let made = (0..count).map(|_| socket::stream_socket(listener.endpoint()).unwrap());
    (SocketAddress::new(listener.endpoint()), made.collect())
}

/// Without free descriptors, the engine stops watching its listeners, still serves its sockets, and accepts again soon
/// after a descriptor becomes free.
pub fn out_of_descriptors_it_rests_and_resumes<D: Driver>() {
    const WAITING: usize = 20;
    let case = Case::echo::<D>();
    let mut good = case.peer();
    good.exchange(b"before");
    let (to, clients) = unconnected(&case, WAITING);
    system::leave_descriptors(3);
    // the clients' sockets exist already: their connects complete in the backlog, but each accept needs a descriptor
    for client in &clients {
        assert_ne!(
            socket::connect(client.as_fd(), &to),
            Connecting::Failed(lightcone_unix::errno::Errno(libc::EMFILE))
        );
    }
    for client in &clients {
        soon("connected", || (socket::connect_result(client.as_fd()) == Connecting::Done).then_some(()));
        soon("sent", || (socket::send(client.as_fd(), b"x") == Sent::Bytes(1)).then_some(()));
    }
    thread::sleep(Duration::from_millis(100));
    let served = case.trace.count("open");
    assert!((1..WAITING).contains(&served), "{served} are served: descriptors are not short");
    // the listener rests: the poller does not spin, and the open sockets are served
    let (cpu, start) = (system::cpu_time(), Clock::now_ms());
    thread::sleep(Duration::from_millis(600));
    let (used, span) = (system::cpu_time() - cpu, Clock::now_ms() - start);
    assert!(used.as_millis() * 5 < u128::from(span), "{used:?} of {span} ms while out of descriptors");
    let mut spans: Vec<_> = (0..20)
        .map(|_| {
            let start = Clock::now_ms();
            good.exchange(b"still served");
            Clock::now_ms() - start
        })
        .collect();
    spans.sort_unstable();
    assert!(spans[10] < 200, "{spans:?} ms");
    assert_eq!(case.trace.count("open"), served);
    // each client that leaves frees its own descriptor and the engine's, so the next one is accepted
    let (mut waiting, mut spans) = (clients, Vec::new());
    while !waiting.is_empty() {
        let at = soon("a client is served", || {
            waiting
                .iter()
                .position(|client| socket::receive(client.as_fd(), &mut [0; 1]) == Received::Bytes(1))
        });
        let before = case.trace.count("open");
        let more = before < WAITING + 1;
        drop(waiting.remove(at));
        let start = Clock::now_ms();
        if more {
            case.trace.until_count("open", before + 1);
            spans.push(Clock::now_ms() - start);
        }
    }
    spans.sort_unstable();
    assert!(spans[spans.len() / 2] < 200, "serving again took {spans:?} ms");
    system::leave_descriptors(100);
    case.stop();
}

/// Makes the accepts of one listener fail with `errno`, alongside a working listener and an open connection.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn beside_a_failing_listener<D: Driver>(errno: i32) {
    let broken = std::sync::Arc::new(core::sync::atomic::AtomicI32::new(-1));
    let failed = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (seen, told) = (std::sync::Arc::clone(&broken), std::sync::Arc::clone(&failed));
    let case = Case::start(small::<D>(), move |socket, event, cx| match event {
        // the filter applies to the calling thread only, so the handler installs it, on the thread of the poller
        Event::Message(_) => {
            let fd = seen.load(core::sync::atomic::Ordering::Relaxed);
            *told.lock().unwrap() = Some(system::fail_accepts(fd, errno));
        }
        other => echoing(socket, other, cx),
    });
    let (bad, good) = (case.listen(), case.listen());
    let mut before = Peer::connect(bad.endpoint());
    before.exchange(b"before");
    broken.store(system::listener_at(bad.endpoint()), core::sync::atomic::Ordering::Relaxed);
    case.handle().post(case.trace.token(0), 1).unwrap();
    let failed = soon("the filter", || *failed.lock().unwrap());
    if let Err(errno) = failed {
        return skip(&format!("this system does not allow making calls fail: {errno}"));
    }
    let mut waiting = Peer::connect(bad.endpoint());
    waiting.send(b"x");
    for _ in 0..20 {
        before.exchange(b"unhurt");
        // with `ENFILE` all listeners of the engine rest, so the good one is used only later
        if errno == libc::ECONNABORTED {
            Peer::connect(good.endpoint()).exchange(b"well");
        }
    }
    waiting.expect_silence(Duration::from_millis(50));
    if errno == libc::ENFILE {
        let cpu = system::cpu_time();
        thread::sleep(Duration::from_millis(600));
        let used = system::cpu_time() - cpu;
        assert!(used < Duration::from_millis(120), "{used:?} of 600 ms with nothing to do");
    }
    bad.close().unwrap();
    Peer::connect(good.endpoint()).exchange(b"well");
}

/// If the whole system has no free descriptor, the engine rests, and later accepts what can be accepted.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn a_full_file_table_is_a_reason_to_rest<D: Driver>() {
    beside_a_failing_listener::<D>(libc::ENFILE);
}

/// Connections that are aborted before they are accepted, even many, do not delay others.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn aborted_connections_delay_no_other<D: Driver>() {
    beside_a_failing_listener::<D>(libc::ECONNABORTED);
}

/// If the whole system has no free descriptor, the engine rests, and later accepts what can be accepted.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn a_full_file_table_is_a_reason_to_rest<D: Driver>() {
    skip("this system does not allow making calls fail");
}

/// Connections that are aborted before they are accepted, even many, do not delay others.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn aborted_connections_delay_no_other<D: Driver>() {
    skip("this system does not allow making calls fail");
}

/// A descriptor limit that is too low for the settings is raised as far as possible, and the shortage is reported.
pub fn a_shortage_of_descriptors_is_reported<D: Driver>() {
    let hard = DescriptorLimit::read().unwrap().hard;
    system::limit_descriptors(64);
    let case = Case::start(small::<D>().sockets(1_000), echoing);
    if hard >= 1_100 {
        assert!(case.engine().descriptor_shortage().is_none());
        assert!(DescriptorLimit::read().unwrap().soft >= 1_000);
    }
    let Ok(beyond) = usize::try_from(hard + 1) else { return skip("there is no hard limit") };
    if beyond > 1 << 22 {
        return skip("the hard limit is too high to be exceeded");
    }
    let engine = small::<D>().sockets(beyond).start(|_| crate::building::Nobody).unwrap();
    let text = engine.descriptor_shortage().unwrap().to_string();
    assert!(text.contains(&hard.to_string()), "{text}");
}

/// A failed allocation makes the start fail with an error that includes the size; it does not end the process.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn a_shortage_of_memory_is_reported<D: Driver>() {
    const LIMIT: u64 = 3 << 30;
    if system::address_space() > LIMIT / 2 {
        return skip("a sanitizer has taken more address space than the limit leaves");
    }
    system::limit_memory(LIMIT);
    let builder = || small::<D>().pollers(2).block_size(4_096);
    let error = builder().blocks(500_000, 500_000).start(|_| crate::building::Nobody).unwrap_err();
    assert!(matches!(error, lightcone_unix::Error::Memory { pollers: 2, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("each of 2 pollers") && text.contains("memory"), "{text}");
    let case = Case::start(builder().blocks(1_000, 1_000), echoing);
    case.peer().exchange(b"what fits serves");
}

/// A failed allocation makes the start fail with an error.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn a_shortage_of_memory_is_reported<D: Driver>() {
    skip("this system limits memory in another way");
}

/// A listen on a port or in a folder without permission fails with an error that says so.
pub fn a_place_that_is_not_permitted<D: Driver>() {
    let folder = lightcone_contract::sockets::Folder::new("permitted");
    let closed = folder.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o500)).unwrap();
    let root = system::is_root();
    if root {
        system::set_user(65_534); // root is permitted everything
    }
    let engine = small::<D>().start(|_| crate::building::Nobody).unwrap();
    let path = format!("unix:{}", closed.join("socket").display());
    let text = engine.listen(&path).unwrap_err().to_string();
    assert!(text.contains(&path) && text.contains("not permitted") && text.contains("EACCES"), "{text}");
    match engine.listen("127.0.0.1:1") {
        Ok(_) => skip("low ports need no permission here"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("127.0.0.1:1") && text.contains("not permitted"), "{text}");
        }
    }
    if root {
        system::set_user(0);
    }
}

/// Without free descriptors, an engine does not start, a listen fails and a connect is refused, each with the reason.
pub fn out_of_descriptors_nothing_begins<D: Driver>() {
    let case = Case::echo::<D>();
    let (elsewhere, address) = crate::connecting::elsewhere();
    let soft = DescriptorLimit::read().unwrap().soft;
    system::leave_descriptors(0);
    let error = small::<D>().sockets(1).start(|_| crate::building::Nobody);
    // the start may raise the limit, and then succeeds
    if let Err(error) = error {
        assert!(error.to_string().contains("EMFILE"), "{error}");
    }
    system::leave_descriptors(0);
    let error = case.engine().listen("127.0.0.1:0").unwrap_err();
    assert!(error.to_string().contains("no descriptor is left"), "{error}");
    case.handle().connect(address, 1).unwrap();
    let refused = case.trace.until(0, "refused").what;
    assert_eq!(refused, crate::trace::What::Refused(lightcone_core::ErrorKind::OutOfDescriptors));
    system::limit_descriptors(soft);
    case.handle().connect(address, 1).unwrap();
    Peer::accept(&elsewhere).exchange(b"hello");
}

/// Signals that interrupt the system calls of all threads have no effect.
pub fn signals_interrupt_nothing<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), echoing);
    case.trace.keep_ends_only();
    system::interrupt_by(libc::SIGALRM);
    system::interrupt_by(libc::SIGUSR1);
    system::alarm_every(Duration::from_micros(500));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let hammer = {
        let threads: Vec<i32> = case.trace.threads().iter().map(|it| it.parse().unwrap()).collect();
        assert_eq!(threads.len(), 2);
        crate::alone::Background::repeat(move || {
            threads.iter().for_each(|thread| system::signal_thread(*thread, libc::SIGUSR1));
            thread::sleep(Duration::from_micros(200));
        })
    };
    let end = Clock::now_ms() + 1_500;
    let mut rounds = 0;
    while Clock::now_ms() < end || rounds < 6 {
        let listener = case.listen();
        let (elsewhere, address) = crate::connecting::elsewhere();
        case.handle().connect(address, 1).unwrap();
        let mut accepted = Peer::accept(&elsewhere);
        let stream =
            soon("connected", || std::net::TcpStream::connect(listener.endpoint().as_inet().unwrap()).ok());
        let mut peer = Peer::from(stream);
        for size in [1, 1_000, 50_000] {
            peer.exchange(&pattern(size));
            accepted.exchange(&pattern(size));
        }
        listener.close().unwrap();
        rounds += 1;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    drop(hammer);
    system::alarm_every(Duration::ZERO);
    case.stop();
}

/// A write to a closed connection does not end the process, even if `SIGPIPE` has its default action.
pub fn a_broken_pipe_does_not_kill_the_process<D: Driver>() {
    system::restore_broken_pipe_signal();
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        other => by_default(socket, other),
    });
    let (tcp, unix) = (case.listen(), case.listen_unix());
    for n in 0..40 {
        let mut peer = Peer::connect(if n % 2 == 0 { tcp.endpoint() } else { unix.endpoint() });
        peer.receive(1_000);
        if n % 4 < 2 { drop(peer) } else { peer.reset() }
    }
    case.trace.until_count("close", 40);
}

/// An idle engine does not run.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn an_idle_engine_makes_no_wake_ups<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), echoing);
    let listener = case.listen();
    let mut peers: Vec<_> = (0..10).map(|_| Peer::connect(listener.endpoint())).collect();
    peers.iter_mut().for_each(|peer| peer.exchange(b"hello"));
    let sleeps = || case.trace.threads().iter().map(|it| system::sleeps_of(it)).collect::<Vec<_>>();
    let run_times = || case.trace.threads().iter().map(|it| system::run_time_of(it)).collect::<Vec<_>>();
    // wait until the last counts are published, which may take some time on a busy machine
    let mut before = (sleeps(), run_times());
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(400));
        let now = (sleeps(), run_times());
        if core::mem::replace(&mut before, now.clone()) == now {
            break;
        }
    }
    thread::sleep(Duration::from_secs(2));
    assert_eq!((sleeps(), run_times()), before);
    peers.iter_mut().for_each(|peer| peer.exchange(b"awake"));
}

/// An idle engine does not run.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn an_idle_engine_makes_no_wake_ups<D: Driver>() {
    skip("this system does not count a thread's sleeps");
}

/// A paused or stalled socket does not make the engine spin after its peer has closed.
pub fn broken_sockets_do_not_spin<D: Driver>() {
    let timeouts = Timeouts::NONE;
    let case = Case::start(small::<D>().timeouts(timeouts), |socket, event, _| match event {
        Event::Open if socket.data.socket == 0 => socket.pause(),
        Event::Open => {
            let _ = socket.send(&[1; 4_000]);
            socket.stream.split().1.request_writable();
        }
        Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        Event::PeerClosed => {}
        other => by_default(socket, other),
    });
    let listener = case.listen();
    // one socket is paused with unread input, one is stalled after its peer's end, one does not consume its input
    let mut paused = Peer::connect(listener.endpoint());
    case.trace.token(0);
    paused.send(b"never read");
    paused.finish();
    let stalled = Peer::connect_narrow(listener.endpoint(), 4_096);
    stalled.finish();
    let mut reset = Peer::connect(listener.endpoint());
    reset.send(b"x");
    case.trace.until_count("open", 3);
    thread::sleep(Duration::from_millis(300));
    let cpu = system::cpu_time();
    thread::sleep(Duration::from_millis(700));
    let used = system::cpu_time() - cpu;
    assert!(used < Duration::from_millis(70), "{used:?} of 700 ms with nothing to do");
    reset.reset();
    drop((paused, stalled));
    case.stop_within(Duration::from_millis(200));
}

/// Ten thousand connections are held and served, or as many as the limit of descriptors allows: both ends of each are
/// in this process.
pub fn ten_thousand_connections_are_served<D: Driver>() {
    let hard = DescriptorLimit::read().unwrap().hard;
    let mut count = usize::try_from(hard.saturating_sub(200) / 2).unwrap_or(usize::MAX).min(10_000);
    if let Some(most) = D::DESCRIPTORS_MAX {
        count = count.min(usize::try_from(most).unwrap() / 2 - 50);
    }
    if count < 10_000 {
        println!("skipped: only {count} of ten thousand connections are possible here");
    }
    system::limit_descriptors(hard);
    let case = Case::start(small::<D>().pollers(2).sockets(count / 2 + 1).blocks(1_024, 1_024), echoing);
    case.trace.keep_ends_only();
    let listener = case.listen();
    // each source address has its own ephemeral ports
    let sources = if cfg!(any(target_os = "linux", target_os = "android")) { 4 } else { 1 };
    let mut peers: Vec<_> = (0..count)
        .map(|n| {
            let last = u8::try_from(1 + n % sources).unwrap();
            Peer::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), listener.endpoint())
        })
        .collect();
    case.trace.until_count("open", count);
    let highest = peers.last().unwrap().as_fd().as_raw_fd();
    assert!(usize::try_from(highest).unwrap() > count);
    for round in 0..2_u8 {
        for batch in peers.chunks_mut(500) {
            batch.iter_mut().for_each(|peer| peer.send(&[round; 64]));
            batch.iter_mut().for_each(|peer| assert_eq!(peer.receive(64), [round; 64]));
        }
    }
    assert_eq!(case.handle().loads().iter().sum::<u32>() as usize, count);
    // after a clean close, the ports would stay in TIME-WAIT for a minute
    peers.into_iter().for_each(Peer::reset);
    case.trace.until_count("close", count);
    case.stop();
}

/// Beyond the driver's limit of descriptors, connections wait without cost, a connect is refused, and the error of a
/// listen names the limit. The waiting connections are served when there is room. Without such a limit they are served
/// at once.
pub fn descriptors_beyond_a_thousand<D: Driver>() {
    let case = Case::echo::<D>();
    let mut before = case.peer();
    before.exchange(b"before");
    let listener = case.listen();
    let hard = DescriptorLimit::read().unwrap().hard;
    if hard < 1_300 {
        return skip("the hard limit is too low");
    }
    system::limit_descriptors(1_300);
    // the fillers take the low numbers, so that new descriptors are beyond the limit of 1,024 that `select` has
    let filler = std::fs::File::open("/dev/null").unwrap();
    let mut fillers = Vec::new();
    while fillers.last().is_none_or(|last: &std::fs::File| last.as_raw_fd() < 1_100) {
        fillers.push(filler.try_clone().unwrap());
    }
    let (_elsewhere, address) = crate::connecting::elsewhere();
    let mut waiting: Vec<_> = (0..3).map(|_| Peer::connect(listener.endpoint())).collect();
    waiting.iter_mut().for_each(|peer| peer.send(b"hello"));
    let Some(limit) = D::DESCRIPTORS_MAX else {
        waiting.iter_mut().for_each(|peer| assert_eq!(peer.receive(5), b"hello"));
        return;
    };
    let cpu = system::cpu_time();
    waiting[0].expect_silence(Duration::from_millis(600));
    let used = system::cpu_time() - cpu;
    assert!(used < Duration::from_millis(120), "{used:?} of 600 ms with nothing to do");
    assert_eq!(case.trace.count("open"), 1);
    before.exchange(b"unhurt");
    case.handle().connect(address, 1).unwrap();
    assert_eq!(
        case.trace.until(1, "refused").what,
        crate::trace::What::Refused(lightcone_core::ErrorKind::OutOfDescriptors)
    );
    let error = case.engine().listen("127.0.0.1:0").unwrap_err().to_string();
    assert!(error.contains(D::NAME) && error.contains(&limit.to_string()), "{error}");
    drop(fillers);
    waiting.iter_mut().for_each(|peer| assert_eq!(peer.receive(5), b"hello"));
    before.exchange(b"after");
    assert_eq!(case.stop().pollers[0].unwatchable, 1, "the connect");
}
