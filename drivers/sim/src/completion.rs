//! A simulated poller whose receives and sends complete later, as over a ring of descriptors.

use lightcone_core::{Handler, Interest, Next, Token};

use crate::poller::{GATHER_MAX, Poller};
use crate::trace::{self, Did};
use crate::twin::Twin;
use crate::within::core_call;
use crate::world::{Completion, Done, World};

impl<H: Handler, T: Twin> Poller<'_, H, T> {
    /// A socket waits: asks for what it waits for, or goes on at once with bytes that have come already.
    pub(crate) fn wait_completing(
        &mut self,
        token: Token,
        interest: Interest,
        world: &mut World,
    ) -> Option<Next> {
        let port = core_call(|| self.shard.port(token))?;
        let end = self.io.end(token)?;
        if port.is_connecting() {
            if !world.end(end).watched.writes() {
                world.end_mut(end).watched = Interest::WRITE;
                world.touch(end);
            }
            return None;
        }
        let room = port.room();
        if !interest.reads() || room == 0 {
            return None;
        }
        if !self.io.entry(token).stash.is_empty() {
            return self.unstash(token, room, world);
        }
        if core::mem::take(&mut self.io.entry(token).ended_unread) {
            return self.after(token, world, |port| port.ended());
        }
        if world.end(end).ops.as_ref().is_none_or(|ops| ops.receive == 0) && !self.io.entry(token).asked {
            self.io.entry(token).asked = true;
            world.ask_receive(end, room);
        }
        None
    }

    fn unstash(&mut self, token: Token, room: usize, world: &mut World) -> Option<Next> {
        let mut bytes = core::mem::take(&mut self.io.entry(token).stash);
        let rest = bytes.split_off(room.min(bytes.len()));
        let entry = self.io.entry(token);
        entry.stash = rest;
        entry.seen.progress = self.now.as_millis();
        self.receive_bytes(token, &mut bytes, world)
    }

    fn receive_bytes(&mut self, token: Token, bytes: &mut [u8], world: &mut World) -> Option<Next> {
        let mut port = core_call(|| self.shard.port(token))?;
        core_call(|| port.received(bytes));
        let mut outlet = crate::entry::Outlet { io: &mut self.io, world };
        let mut cx = lightcone_core::Context::new(self.now, Some(0), token.poller(), &mut outlet);
        Some(core_call(|| port.run(&mut self.handler, &mut cx)))
    }

    /// Has the network take the queued bytes; they stay where they are until it has.
    pub(crate) fn begin_send(&mut self, token: Token, world: &mut World) -> Option<Next> {
        let mut port = core_call(|| self.shard.port(token))?;
        let end = self.io.end(token)?;
        let mut pieces: [&[u8]; GATHER_MAX] = [&[]; GATHER_MAX];
        core_call(|| port.send_started());
        let count = core_call(|| port.outputs(&mut pieces));
        let pieces = &pieces[..count];
        let bytes: Vec<u8> = pieces.concat();
        let places = pieces.iter().map(|piece| (piece.as_ptr().addr(), piece.len())).collect();
        let offered = bytes.len();
        let now = self.now.as_millis();
        self.io.entry(token).seen.stalled.get_or_insert(now);
        world.ask_send(end, bytes, places);
        let keeps = self.twin.keeps_in_flight();
        if !keeps {
            self.io.entry(token).sent += offered as u64;
        }
        self.after(token, world, |port| {
            if !keeps {
                port.sent(offered);
            }
        })
    }

    pub(crate) fn on_completion(&mut self, completion: Completion, world: &mut World) {
        let Completion { end, uid, key, done } = completion;
        let outcome = match &done {
            Done::Received(bytes) => bytes.len() as u64,
            Done::Sent(n) => *n as u64,
            Done::Ended => trace::ENDED,
            Done::Connected => 0,
            Done::Failed(_) | Done::CalledOff => trace::FAILED,
        };
        world.trace.note(Did::Complete, end.into(), outcome);
        let token = self.addressee(Token::from_bits(key));
        if core_call(|| self.shard.port(token)).is_none() {
            return; // it has gone in the meantime
        }
        let next = match done {
            Done::Received(bytes) => {
                let entry = self.io.entry(token);
                entry.asked = false;
                entry.stash.extend(bytes);
                let room = core_call(|| self.shard.port(token)).map_or(0, |port| port.room());
                if room == 0 {
                    return; // until it waits for reading again
                }
                self.unstash(token, room, world)
            }
            Done::Ended => {
                let entry = self.io.entry(token);
                entry.asked = false;
                let reads = core_call(|| self.shard.port(token)).is_some_and(|port| port.room() > 0);
                if !reads {
                    // who is not read from is not told of an end behind what was not read
                    self.io.entry(token).ended_unread = true;
                    return;
                }
                self.after(token, world, |port| port.ended())
            }
            Done::Connected => {
                self.io.opened(token, self.now);
                self.after(token, world, |port| port.connected())
            }
            Done::Sent(n) => self.complete_send(token, (end, uid), n, world),
            Done::Failed(kind) => {
                let op = world.is_there((end, uid)).then(|| world.end_mut(end).ops.as_mut()).flatten();
                let sending = op.is_some_and(|ops| ops.send.take_if(|op| op.done.is_some()).is_some());
                let entry = self.io.entry(token);
                entry.asked &= sending;
                entry.seen.connect_failed = true;
                self.after(token, world, |port| {
                    if sending {
                        port.sent(0);
                    }
                    port.failed(kind);
                })
            }
            Done::CalledOff => {
                self.after(token, world, |port| port.failed(lightcone_core::ErrorKind::ConnectionAborted))
            }
        };
        if let Some(next) = next {
            self.act(token, next, world);
        }
    }

    fn complete_send(
        &mut self,
        token: Token,
        (end, uid): (u32, u32),
        n: usize,
        world: &mut World,
    ) -> Option<Next> {
        let op = if world.is_there((end, uid)) {
            world.end_mut(end).ops.as_mut().and_then(|ops| ops.send.take())
        } else {
            None
        };
        let port = core_call(|| self.shard.port(token))?;
        let mut pieces: [&[u8]; GATHER_MAX] = [&[]; GATHER_MAX];
        let count = core_call(|| port.outputs(&mut pieces));
        if let Some(op) = op {
            let now = pieces[..count].concat();
            assert!(
                now.starts_with(&op.bytes),
                "in flight: the bytes of {token} were taken back or written over before they had left"
            );
            let stay = op.places.iter().zip(&pieces).all(|((at, _), piece)| *at == piece.as_ptr().addr());
            assert!(stay, "in flight: the bytes of {token} were moved before they had left");
        }
        let now = self.now.as_millis();
        let entry = self.io.entry(token);
        entry.sent += n as u64;
        entry.seen.progress = now;
        entry.seen.stalled = None;
        self.after(token, world, |port| port.sent(n))
    }
}
