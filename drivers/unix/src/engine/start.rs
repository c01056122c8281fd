//! Starts the threads of an engine.

use alloc::sync::Arc;
use core::time::Duration;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{Member, Poller, PollerStorage, TopicStorage};
use lightcone_core::{Config, Handler, Instant, PollerId, Shard, Storage, TimerStorage, TimerWheel};

use super::error::Error;
use super::handle::{Handle, Inner};
use crate::clock::Clock;
use crate::driver::Driver;
use crate::listener::ListenOptions;
use crate::memory;
use crate::poller::PollerThread;
use crate::report::PollerReport;
use crate::shared::EngineShared;
use crate::transport::{ConnectionFilter, LISTENERS_MAX, UnixTransport};

/// The common parameters from which the threads of an engine are started.
pub(super) struct Starter<H: Handler, F> {
    pub(super) make: Arc<F>,
    pub(super) shared: Arc<EngineShared<H::Message>>,
    pub(super) config: Config,
    pub(super) listen: ListenOptions,
    /// How an accepting poller distributes sockets; `None`: it keeps them.
    pub(super) policy: Option<Policy>,
    pub(super) filter: Option<ConnectionFilter>,
}

pub(super) type Thread = JoinHandle<PollerReport>;

impl<H: Handler<Message: Send> + 'static, F> Starter<H, F>
where
    F: Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
{
    /// Starts all threads and waits until each has created its handler and its poller.
    pub(super) fn threads<D: Driver>(&self, drivers: Vec<D>) -> Result<Vec<Thread>, Error> {
        let (ready, started) = mpsc::channel();
        let mut threads = Vec::new();
        let mut failed = None;
        for (index, driver) in drivers.into_iter().enumerate() {
            match self.thread(PollerId(index as u8), driver, ready.clone()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(Error::Thread(error));
                    break;
                }
            }
        }
        // The iterator ends when all senders are dropped. A thread drops its sender after reporting, or when the
        // factory panics, so a missing id is the id of a factory that panicked.
        drop(ready);
        let mut ready: Vec<_> = started.iter().collect();
        ready.sort_unstable();
        if failed.is_none() && ready.len() < threads.len() {
            let missing = ready.iter().zip(0..).take_while(|(id, index)| id.0 == *index).count();
            failed = Some(Error::Factory(PollerId(missing as u8)));
        }
        let Some(error) = failed else { return Ok(threads) };
        self.shared.group().stop(Duration::ZERO); // no effect on pollers whose thread was not started
        for thread in threads {
            let _ = thread.join();
        }
        Err(error)
    }

    fn thread<D: Driver>(
        &self,
        id: PollerId,
        driver: D,
        ready: mpsc::Sender<PollerId>,
    ) -> io::Result<Thread> {
        let (make, shared, config) = (Arc::clone(&self.make), Arc::clone(&self.shared), self.config);
        let (listen, policy, filter) = (self.listen, self.policy, self.filter.clone());
        let name = format!("lightcone-{id}");
        thread::Builder::new().name(name).spawn(move || {
            let config = Config { poller: id, ..config };
            let inner = Arc::new(Inner { shared: Arc::clone(&shared), listen, shortage: None });
            let handler = make(PollerContext { id, handle: Handle { inner } });
            let pollers = shared.group().pollers().len();
            let balancer = policy.and_then(|policy| Balancer::new(policy, pollers).ok());
            let mut slots = Box::new_uninit_slice(config.sockets);
            let mut memory = match memory::map(config.memory()) {
                Ok(memory) => memory,
                Err(error) => panic!("{} bytes for poller {id}: {error}", config.memory()),
            };
            let storage = Storage { slots: &mut slots, memory: &mut memory };
            let now = Instant::from_millis(Clock::now_ms());
            let receive_size =
                if config.receive_blocks > 0 { config.receive_size } else { config.block_size };
            let (mut wheel, mut timers) = (TimerWheel::new(), Box::new_uninit_slice(config.timers));
            let (mut subscriptions, mut subscribers) =
                (Box::new_uninit_slice(config.subscriptions), Box::new_uninit_slice(config.sockets));
            let poller_storage = PollerStorage {
                connections: &mut Box::new_uninit_slice(config.sockets),
                listeners: &mut (0..LISTENERS_MAX).map(|_| None).collect::<Vec<_>>(),
                buffer: &mut vec![0; receive_size],
                timers: TimerStorage::new(&mut wheel, &mut timers),
                rooms: &mut Box::new_uninit_slice(config.room_requests),
                topics: TopicStorage::new(&mut subscriptions, &mut subscribers),
            };
            let transport = UnixTransport { driver, shared: &shared, options: listen, filter };
            let Some(member) = Member::new(shared.group(), id, balancer) else {
                return PollerReport::default();
            };
            let poller = Shard::new(storage, &config, now)
                .and_then(|shard| Poller::new(shard, handler, transport, member, poller_storage));
            let poller = match poller {
                Ok(poller) => poller,
                Err(error) => unreachable!("the configuration was checked: {error}"),
            };
            // `Starter::threads` waits until all senders are dropped, so this one must not live as long as the poller.
            let _ = ready.send(id);
            drop(ready);
            PollerThread::new(id, &shared, poller).run()
        })
    }
}

/// The argument of the handler factory, one for each poller.
#[derive(Debug)]
pub struct PollerContext<M> {
    id: PollerId,
    handle: Handle<M>,
}

impl<M> PollerContext<M> {
    /// Returns the poller that the handler is created for.
    #[must_use]
    pub fn id(&self) -> PollerId {
        self.id
    }

    /// Returns a handle to the engine. The handler may keep it.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }
}
