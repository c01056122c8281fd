//! Sizes of types, and which types may cross threads.

use core::mem::MaybeUninit;
use lightcone_core::framing::{FrameTooLong, SendFrameError};
use lightcone_core::{
    Action, Address, AdmitError, CloseReason, Config, ConfigError, Connection, ErrorKind, Event, Full, Input,
    Instant, Interest, Origin, Output, SetupError, Shard, Slot, Socket, Stats, Storage, StorageError, Stream,
    Timeouts, Token, footprint,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::rc::Rc;

// Plain values may go anywhere.
assert_impl_all!(Token: Send, Sync, Copy, Ord, core::hash::Hash);
assert_impl_all!(Address: Send, Sync, Copy);
assert_impl_all!(Instant: Send, Sync, Copy, Ord);
assert_impl_all!(Event<u32>: Send, Sync, Copy);
assert_impl_all!(CloseReason: Send, Sync, Copy);
assert_impl_all!(ErrorKind: Send, Sync, Copy, core::error::Error);
assert_impl_all!(Full: Send, Sync, Copy, core::error::Error);
assert_impl_all!(AdmitError: Send, Sync, Copy, core::error::Error);
assert_impl_all!(ConfigError: Send, Sync, Copy, core::error::Error);
assert_impl_all!(SetupError: Send, Sync, Copy, core::error::Error);
assert_impl_all!(Origin: Send, Sync, Copy);
assert_impl_all!(Interest: Send, Sync, Copy);
assert_impl_all!(Action: Send, Sync, Copy);
assert_impl_all!(Stats: Send, Sync, Copy);
assert_impl_all!(Config: Send, Sync, Copy);

// The parts of a poller may be sent to its thread.
assert_impl_all!(Storage<'static, u32>: Send);

// User data that is bound to a thread binds the shard to that thread.
assert_not_impl_any!(Shard<'static, Rc<u32>>: Send, Sync);
assert_not_impl_any!(Storage<'static, Rc<u32>>: Send, Sync);
assert_not_impl_any!(Slot<Rc<u32>>: Send, Sync);
assert_not_impl_any!(Connection<'static, 'static, Rc<u32>>: Send, Sync);

trait No {
    const YES: bool = false;
}
struct Sends<T>(core::marker::PhantomData<T>);
struct Syncs<T>(core::marker::PhantomData<T>);
impl<T> No for Sends<T> {}
impl<T> No for Syncs<T> {}
impl<T: Send> Sends<T> {
    const YES: bool = true;
}
impl<T: Sync> Syncs<T> {
    const YES: bool = true;
}

/// The view that a callback gets must not leave its thread: it refers to data of one poller.
#[test]
fn a_view_does_not_leave_its_thread() {
    /// Evaluates to whether a type is `Send` and `Sync`. Where the bounds hold, the inherent constant takes precedence
    /// over the constant of the trait.
    macro_rules! crosses {
        ($type:ty) => {
            (<Sends<$type>>::YES, <Syncs<$type>>::YES)
        };
    }
    assert_eq!(crosses!(u32), (true, true));
    assert_eq!(crosses!(Rc<u32>), (false, false));
    assert_eq!(crosses!(core::cell::Cell<u32>), (true, false));
    assert_eq!(crosses!(Socket<'static, u32>), (false, false), "Socket");
    assert_eq!(crosses!(Stream<'static>), (false, false), "Stream");
    assert_eq!(crosses!(Input<'static>), (false, false), "Input");
    assert_eq!(crosses!(Output<'static>), (false, false), "Output");
}

#[test]
fn an_idle_socket_costs_its_slot_alone_and_that_is_small() {
    let slot = footprint::<()>(&Config::DEVICE).slot;
    assert!(slot <= 112, "{slot} bytes");
}

#[test]
fn the_footprint_is_what_the_types_take() {
    for config in [
        Config::DEVICE,
        Config { sockets: 1, ..Config::DEVICE },
        Config { sockets: 1 << 20, receive_blocks: 0, ..Config::DEVICE },
        Config { block_size: 64, input_blocks: 1, output_blocks: 1, receive_size: 64, ..Config::DEVICE },
    ] {
        let cost = footprint::<[u64; 3]>(&config);
        assert_eq!(cost.slot, size_of::<Slot<[u64; 3]>>());
        assert_eq!(cost.slots, cost.slot * config.sockets);
        assert_eq!(cost.shard, size_of::<Shard<'_, [u64; 3]>>());
        assert_eq!(cost.memory, config.memory());
        assert_eq!(cost.total(), cost.shard + cost.slots + cost.memory);
        assert!(cost.to_string().starts_with(&format!("{} bytes", cost.total())), "{cost}");
        let large = config.receive_blocks * config.receive_size;
        let bytes = (config.input_blocks + config.output_blocks) * config.block_size + large;
        assert!(cost.memory >= bytes);
    }
    assert!(footprint::<()>(&Config::DEVICE).total() <= 48 * 1024, "16 sockets in about 40 KiB");
}

/// Builds a shard in `memory` bytes and `slots` slots.
fn built(config: &Config, slots: usize, memory: usize) -> Result<(), SetupError> {
    let mut slots: Vec<MaybeUninit<Slot<u8>>> = (0..slots).map(|_| MaybeUninit::uninit()).collect();
    let mut memory = vec![0; memory];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    Shard::new(storage, config, Instant::from_millis(0)).map(|_| ())
}

#[test]
fn storage_must_be_as_large_as_the_configuration_requires_and_may_be_larger() {
    let config = Config { sockets: 3, ..Config::DEVICE };
    let memory = config.memory();
    assert_eq!(built(&config, 3, memory), Ok(()));
    assert_eq!(built(&config, 9, memory + 12_345), Ok(()));
    let told = |slots, memory| built(&config, slots, memory).unwrap_err().to_string();
    let short = "the lent memory is too short: ";
    assert_eq!(told(2, memory), format!("{short}Storage::slots has a length of 2, and 3 is needed"));
    let one_less = format!("{short}Storage::memory has a length of {}, and {memory} is needed", memory - 1);
    assert_eq!(told(3, memory - 1), one_less);
    assert_eq!(told(0, 0), format!("{short}Storage::slots has a length of 0, and 3 is needed"));
}

/// The texts of an error and of its sources.
fn texts(error: &dyn core::error::Error) -> Vec<String> {
    core::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[test]
fn a_chain_of_sources_has_every_text_once() {
    let config = Config { sockets: 0, ..Config::DEVICE }.check().unwrap_err();
    assert_eq!(texts(&SetupError::from(config)), [config.to_string()]);
    let storage = StorageError::check("Storage::slots", 2, 3).unwrap_err();
    assert_eq!(texts(&SetupError::from(storage)), [storage.to_string()]);
    let long = FrameTooLong { length: 300, max: 255 };
    assert_eq!(
        texts(&SendFrameError::TooLong(long)),
        ["the length of a frame cannot be encoded", &long.to_string()]
    );
}

#[test]
fn a_cost_beyond_all_memory_does_not_wrap() {
    let config = Config { sockets: usize::MAX, output_blocks: usize::MAX, ..Config::DEVICE };
    assert_eq!(config.memory(), usize::MAX);
    assert_eq!(footprint::<u64>(&config).total(), usize::MAX);
    let config = Config { receive_size: usize::MAX, ..Config::DEVICE };
    assert_eq!(config.memory(), usize::MAX);
}

#[test]
fn every_setting_is_checked_at_both_ends() {
    let fine = Config::DEVICE;
    // Most settings are tested just inside and just outside of each limit.
    let cases: [(&str, Config, bool); 24] = [
        ("sockets", Config { sockets: 0, ..fine }, false),
        ("sockets", Config { sockets: 1, ..fine }, true),
        ("sockets", Config { sockets: 1 << 24, ..fine }, true),
        ("sockets", Config { sockets: (1 << 24) + 1, ..fine }, false),
        ("block_size", Config { block_size: 32, ..fine }, false),
        ("block_size", Config { block_size: 64, ..fine }, true),
        ("block_size", Config { block_size: 96, ..fine }, false),
        ("block_size", Config { block_size: 1 << 25, receive_size: 1 << 25, ..fine }, false),
        ("input_blocks", Config { input_blocks: 0, ..fine }, false),
        ("input_blocks", Config { input_blocks: 1, ..fine }, true),
        ("output_blocks", Config { output_blocks: 0, ..fine }, false),
        ("output_blocks", Config { output_blocks: 1, ..fine }, true),
        ("output_blocks", Config { output_blocks: 1 << 22, ..fine }, false),
        ("output_limit", Config { output_limit: 0, ..fine }, false),
        ("output_limit", Config { output_limit: 65_535, ..fine }, true),
        ("output_limit", Config { output_limit: 65_536, ..fine }, false),
        ("receive_size", Config { receive_size: 512, ..fine }, false),
        ("receive_size", Config { receive_size: 1024, ..fine }, true),
        ("receive_size", Config { receive_size: 5000, ..fine }, false),
        ("receive_size", Config { receive_size: 5000, receive_blocks: 0, ..fine }, true),
        ("timeouts.idle", idle(0), false),
        ("timeouts.idle", idle(1), true),
        ("timeouts.idle", idle((1 << 30) - 1), true),
        ("timeouts.idle", idle(1 << 30), false),
    ];
    for (field, config, fits) in cases {
        match config.check() {
            Ok(()) => assert!(fits, "{field} {config:?}"),
            Err(error) => assert_eq!((error.field, false), (field, fits), "{error}"),
        }
    }
}

fn idle(millis: u64) -> Config {
    let idle = Some(core::time::Duration::from_millis(millis));
    Config { timeouts: Timeouts { idle, ..Timeouts::NONE }, ..Config::DEVICE }
}

#[test]
fn user_data_is_dropped_once_with_its_socket_or_with_the_shard() {
    use lightcone_core::{Context, Handler, NoOutbox, PollerId};
    struct Shared(Rc<()>);
    impl Handler for Shared {
        type Data = Rc<()>;
        type Message = core::convert::Infallible;
        fn admit(&mut self, _: Origin, _: &Address) -> Option<Rc<()>> {
            Some(self.0.clone())
        }
    }
    let mut handler = Shared(Rc::new(()));
    let config = Config { sockets: 8, ..Config::DEVICE };
    let mut slots: Vec<MaybeUninit<Slot<Rc<()>>>> = (0..8).map(|_| MaybeUninit::uninit()).collect();
    let mut memory = vec![0; config.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let mut shard = Shard::new(storage, &config, Instant::from_millis(0)).unwrap();
    let peer = Address::Unix(lightcone_core::UnixId(0));
    let origin = Origin::Accepted { listener: lightcone_core::ListenerId(0) };
    let tokens: Vec<Token> = (0..8).map(|_| shard.admit(&mut handler, origin, &peer).unwrap()).collect();
    assert_eq!(Rc::strong_count(&handler.0), 9);
    let mut outbox = NoOutbox;
    let mut cx = Context::new(Instant::from_millis(0), None, PollerId(0), &mut outbox);
    for token in &tokens[..5] {
        let mut conn = shard.connection(*token).unwrap();
        conn.abort_with(CloseReason::Shutdown);
        assert_eq!(conn.run(&mut handler, &mut cx), Action::Close);
    }
    assert_eq!(Rc::strong_count(&handler.0), 4);
    drop(shard);
    assert_eq!(Rc::strong_count(&handler.0), 1);
}
