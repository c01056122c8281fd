//! Invalid settings and endpoints: each error names the value and what is allowed.

use core::time::Duration;

use lightcone_contract::sockets::soon;
use lightcone_core::{Address, ErrorKind, Handler, Origin, RequestError, Timeouts};
use lightcone_unix::driver::Driver;
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::{Builder, Engine, Error, Policy};

use crate::case::{Case, Event, small};

/// A handler that admits no socket.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Handler for Nobody {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        None
    }
}

fn start<D: Driver>(builder: Builder<D>) -> Result<Engine<u64>, Error> {
    builder.start(|_| Nobody)
}

fn expect_refusal<D: Driver>(builder: Builder<D>, parts: &[&str]) {
    let text = start(builder).unwrap_err().to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not name {part:?}");
    }
}

/// The first values out of range of each setting are refused, with an error that names the value and the range.
pub fn settings_out_of_range_are_named<D: Driver>() {
    expect_refusal(small::<D>().pollers(0), &["0 pollers", "1 to 256"]);
    expect_refusal(small::<D>().pollers(257), &["257 pollers", "1 to 256"]);
    expect_refusal(small::<D>().sockets(0), &["0 sockets", "1 to 16776192"]);
    expect_refusal(small::<D>().sockets(16_776_193), &["16776193 sockets", "1 to 16776192"]);
    expect_refusal(small::<D>().sockets(usize::MAX), &["1 to 16776192"]);
    for mailbox in [0, 1, 3, 100, usize::MAX] {
        expect_refusal(
            small::<D>().mailbox(mailbox),
            &[&mailbox.to_string(), "power of two from 2 to 1048576"],
        );
    }
    for block in [0, 63, 1_000, 1 << 25] {
        expect_refusal(
            small::<D>().block_size(block),
            &["block_size", &block.to_string(), "power of two from 64"],
        );
    }
    expect_refusal(small::<D>().blocks(0, 1), &["input_blocks is 0", "1 or more"]);
    expect_refusal(small::<D>().blocks(1, 0), &["output_blocks is 0", "1 or more"]);
    expect_refusal(small::<D>().blocks(usize::MAX, 1), &["input_blocks", "4 GiB together"]);
    expect_refusal(small::<D>().output_limit(0), &["output_limit is 0", "1 to 65535"]);
    expect_refusal(small::<D>().output_limit(65_536), &["output_limit is 65536", "1 to 65535"]);
    expect_refusal(small::<D>().receive(512, 1), &["receive_size is 512", "a power of two from block_size"]);
    expect_refusal(
        small::<D>().receive(5_000, 1),
        &["receive_size is 5000", "a power of two from block_size"],
    );
    expect_refusal(small::<D>().balancer(Policy::Pinned(1)), &["poller 1", "1, counted from 0"]);
    let zero = Timeouts { idle: Some(Duration::ZERO), ..Timeouts::DEFAULT };
    expect_refusal(small::<D>().timeouts(zero), &["timeouts.idle is 0", "less than 12 days"]);
    let long = Timeouts { drain: Some(Duration::from_secs(2_000_000)), ..Timeouts::DEFAULT };
    expect_refusal(small::<D>().timeouts(long), &["timeouts.drain is 2000000000", "less than 12 days"]);
}

/// The extreme values that are allowed start and serve.
pub fn extreme_settings_serve<D: Driver>() {
    let tiny = small::<D>().sockets(1).mailbox(2).block_size(64).blocks(1, 1).output_limit(1).receive(0, 0);
    let case = Case::start(tiny, crate::case::echoing);
    case.peer().exchange(&[7; 10_000]);
    drop(case);
    let case = Case::start(small::<D>().pollers(16), crate::case::echoing);
    let listener = case.listen();
    for _ in 0..16 {
        crate::peer::Peer::connect(listener.endpoint()).exchange(b"hello");
    }
}

/// The defaults start and serve.
pub fn the_defaults_serve<D: Driver>() {
    let builder = Builder::<D>::new().pollers(2);
    Case::start(builder, crate::case::echoing).peer().exchange(&crate::peer::pattern(500_000));
}

/// A listen on an address that is in use fails with an error that names it.
pub fn an_address_in_use_is_named<D: Driver>() {
    let engine = start(small::<D>()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = engine.listen(address).unwrap_err();
    let Error::Listen(listen) = &error else { panic!("{error}") };
    assert_eq!(ErrorKind::from(listen.errno()), ErrorKind::AddressInUse);
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("in use"), "{text}");
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let text = engine.listen(listener.endpoint()).unwrap_err().to_string();
    assert!(text.contains(&listener.endpoint().to_string()) && text.contains("in use"), "{text}");
    drop(engine);
}

/// A Unix path with a listener is refused, one of a closed listener is replaced, and one that is not a socket is kept.
pub fn unix_paths_in_the_way<D: Driver>() {
    let case = Case::echo::<D>();
    let path = |name: &str| case.unix_path(name);
    let file = |name: &str| path(name).strip_prefix("unix:").unwrap().to_owned();
    let living = case.engine().listen(path("living")).unwrap();
    let text = case.engine().listen(path("living")).unwrap_err().to_string();
    assert!(text.contains("living") && text.contains("in use"), "{text}");
    crate::peer::Peer::connect(living.endpoint()).exchange(b"unhurt");
    drop(std::os::unix::net::UnixListener::bind(file("dead")).unwrap());
    case.engine().listen(path("dead")).unwrap();
    std::fs::write(file("text"), "precious").unwrap();
    let text = case.engine().listen(path("text")).unwrap_err().to_string();
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(std::fs::read_to_string(file("text")).unwrap(), "precious");
    let text = case.engine().listen(path("no/such/folder")).unwrap_err().to_string();
    assert!(text.contains("directory does not exist"), "{text}");
    case.stop();
}

/// The file of a Unix socket is removed with its listener.
pub fn a_unix_socket_file_goes_with_its_listener<D: Driver>() {
    let case = Case::echo::<D>();
    let listener = case.listen_unix();
    let Endpoint::Unix(name) = listener.endpoint() else { unreachable!() };
    let path = name.as_path().unwrap().to_owned();
    assert!(path.exists());
    listener.close().unwrap();
    soon("the file's end", || (!path.exists()).then_some(()));
    let listener = case.listen_unix();
    crate::peer::Peer::connect(listener.endpoint()).exchange(b"again");
    assert!(path.exists());
    case.trace.until_count("close", 1);
    case.stop();
    assert!(!path.exists());
}

/// The error for a malformed address quotes it and shows a valid one.
pub fn malformed_addresses_are_quoted<D: Driver>() {
    let engine = start(small::<D>()).unwrap();
    for text in [
        "",
        "8080",
        "127.0.0.1",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "::1:80",
        "unix:",
        "no.such.host.invalid:1",
    ] {
        let error = engine.listen(text).unwrap_err();
        assert!(matches!(error, Error::Endpoint(_)), "{error}");
        let message = error.to_string();
        assert!(message.contains(&format!("{text:?}")) && message.contains("127.0.0.1:8080"), "{message}");
    }
    let error = engine.listen("192.0.2.1:0").unwrap_err().to_string();
    assert!(error.contains("192.0.2.1") && error.contains("no interface has this address"), "{error}");
}

/// A failed `listen` does not use up a slot.
pub fn a_failed_listen_takes_no_place<D: Driver>() {
    let case = Case::echo::<D>();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..300 {
        case.engine().listen(taken.local_addr().unwrap()).unwrap_err();
    }
    case.peer().exchange(b"hello");
}

/// There is no limit on Unix addresses over time. An engine remembers 4,096 of them, and always those of its listeners.
pub fn unix_addresses_come_and_go<D: Driver>() {
    let case = Case::echo::<D>();
    let known = case.listen_unix();
    let address = case.handle().address(known.endpoint()).unwrap();
    let path = |number: usize| case.unix_path(&number.to_string()).parse::<Endpoint>().unwrap();
    let first = case.handle().address(&path(0)).unwrap();
    for number in 1..5_000 {
        case.handle().address(&path(number)).unwrap();
    }
    assert_eq!(case.handle().endpoint(&first), None, "it was forgotten, and is not reused");
    assert_eq!(case.handle().endpoint(&address).as_ref(), Some(known.endpoint()));
    case.handle().connect(address, 1).unwrap();
    case.trace.until_count("open", 2);
    case.handle().connect(first, 2).unwrap();
    case.trace.until_count("refused", 1);
    case.engine().listen(case.unix_path("another")).unwrap();
}

/// During a shutdown, an engine neither listens nor connects any more, and returns an error.
pub fn a_stopping_engine_begins_nothing<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), |socket, event, cx| match event {
        Event::Shutdown => {}
        other => crate::case::echoing(socket, other, cx),
    });
    let mut peer = case.peer();
    let (elsewhere, address) = crate::connecting::elsewhere();
    case.trace.token(0);
    case.handle().shutdown(Duration::from_secs(3_600));
    assert!(matches!(case.engine().listen("127.0.0.1:0"), Err(Error::Request(RequestError::Gone))));
    assert_eq!(case.handle().connect(address, 1), Err(RequestError::Gone));
    peer.exchange(b"still served");
    drop((peer, elsewhere));
    case.join();
}

/// After the end of an engine, `listen` fails.
pub fn a_stopped_engine_does_not_listen<D: Driver>() {
    let engine = start(small::<D>()).unwrap();
    engine.handle().shutdown(Duration::ZERO);
    let gone = || matches!(engine.listen("127.0.0.1:0"), Err(Error::Request(RequestError::Gone)));
    soon("the end", || gone().then_some(()));
    engine.join();
}
