//! A poller's descriptors, and what its handlers can reach through their context.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use std::os::fd::{AsFd, OwnedFd};

use lightcone_core::{Address, ConnectError, Interest, Outbox, PollerId, Rejected, Shard, Token};

use crate::address::SocketAddress;
use crate::errno::Errno;
use crate::hub::{Hub, Seat};
use crate::socket::{self, Connecting};

/// How many connects the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 16;

/// One socket as the OS knows it; at the place of its token's index.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) interest: Interest,
    /// The low bytes of the token's generation: handlers may ask with one whose socket has gone.
    generation: [u8; 3],
}

const _: () = assert!(size_of::<Entry>() == 8, "an idle connection pays for it");

const fn low_bytes(token: Token) -> [u8; 3] {
    let [a, b, c, _] = token.generation().to_le_bytes();
    [a, b, c]
}

/// A connect that a handler asked for.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) token: Token,
    pub(crate) to: Address,
    pub(crate) tag: u64,
    pub(crate) seat: Seat,
}

pub(crate) struct Io<'h, M> {
    pub(crate) me: PollerId,
    pub(crate) hub: &'h Hub<M>,
    pub(crate) entries: Vec<Entry>,
    /// Slots set aside, so that a connect has its token at once.
    pub(crate) stash: Vec<Token>,
    pub(crate) dials: VecDeque<Dial>,
    pub(crate) nodelay: bool,
}

impl<M> Io<'_, M> {
    pub(crate) fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        self.entries.get_mut(token.index() as usize)
    }

    #[inline]
    pub(crate) fn interest(&self, token: Token) -> Option<Interest> {
        self.entries.get(token.index() as usize).map(|entry| entry.interest)
    }

    /// Puts a socket's descriptor in its place.
    pub(crate) fn take(&mut self, token: Token, fd: Option<OwnedFd>, interest: Interest) {
        let index = token.index() as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Entry::default);
        }
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry { fd, interest, generation: low_bytes(token) };
        }
    }

    /// Sets slots aside for the connects of the next turn; a comparison when none was used.
    pub(crate) fn refill<D>(&mut self, shard: &mut Shard<'_, D>) {
        while self.stash.len() < CONNECTS_A_TURN {
            let Some(token) = shard.reserve() else { return };
            self.stash.push(token);
        }
    }

    pub(crate) fn give_back_stash<D>(&mut self, shard: &mut Shard<'_, D>) {
        for token in self.stash.drain(..).chain(self.dials.drain(..).map(|dial| dial.token)) {
            shard.give_back(token);
        }
    }

    /// Makes a socket and begins to connect it; says whether that is done already.
    pub(crate) fn connect(&self, to: &Address) -> Result<(OwnedFd, bool), Errno> {
        let endpoint = self.hub.endpoint(to).ok_or(Errno(libc::EINVAL))?;
        let fd = socket::stream_socket(&endpoint)?;
        if self.nodelay && endpoint.as_inet().is_some() {
            socket::set_nodelay(fd.as_fd())?;
        }
        match socket::connect(fd.as_fd(), &SocketAddress::new(&endpoint)) {
            Connecting::Done => Ok((fd, true)),
            Connecting::InProgress => Ok((fd, false)),
            Connecting::Failed(errno) => Err(errno),
        }
    }
}

impl<M> Outbox<M> for Io<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.hub.post(to, message, Some(self.me))
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.hub.broadcast(message, clone, Some(self.me))
    }

    fn connect(&mut self, to: &Address, tag: u64) -> Result<Token, ConnectError> {
        let remote = self.hub.remote(self.me).ok_or(ConnectError::Unsupported)?;
        let seat = Seat::one_below(Arc::clone(&remote.load), self.hub.sockets).ok_or(ConnectError::Full)?;
        let token = self.stash.pop().ok_or(ConnectError::Full)?;
        self.dials.push_back(Dial { token, to: *to, tag, seat });
        Ok(token)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        let entry = self.entries.get(token.index() as usize)?;
        if token.poller() != self.me || low_bytes(token) != entry.generation {
            return None;
        }
        let local = socket::local_address(entry.fd.as_ref()?.as_fd()).ok()?;
        local.to_endpoint().and_then(|endpoint| self.hub.address(&endpoint))
    }
}
