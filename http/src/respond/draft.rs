//! One response in the making, and how its head is put together.

use lightcone_core::{Full, Output};

use crate::middleware::Hook;
use crate::parse::chunked::Count;
use crate::status::Status;

use super::fields::{Added, Headers};
use super::fixed::{Fixed, decimal};

/// What of a request decides how its response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// A `HEAD` request: all but the body.
    pub(crate) bodiless: bool,
    /// The client speaks HTTP/1.0: no chunks, and it has to be told that the connection stays.
    pub(crate) old: bool,
    /// Another request may follow.
    pub(crate) keep_alive: bool,
    /// The client waits for leave to send its body.
    pub(crate) expects_continue: bool,
}

impl Plan {
    /// What nearly all requests ask for.
    pub(crate) const PLAIN: Self =
        Self { bodiless: false, old: false, keep_alive: true, expects_continue: false };
}

/// How the body of a response goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// Not at all: the response is complete.
    Whole,
    /// The head is not written yet: the exchange decides.
    Deferred,
    /// So many bytes are to come.
    Length(Count),
    /// In chunks.
    Chunked,
    /// Up to the end of the connection.
    Raw,
    /// Only the last chunk is missing: there was no room for it.
    LastChunk,
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Length(u64),
    Unknown,
}

/// One response in the making: where it goes, and what is known of it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) output: Output<'a>,
    pub(crate) fixed: &'a Fixed,
    pub(crate) added: &'a mut Added,
    pub(crate) hooks: Option<&'a Hook<'a>>,
    pub(crate) plan: Plan,
    pub(crate) status: Status,
}

const TEXT: &[u8] = b"Content-Type: text/plain; charset=utf-8\r\n";

impl Draft<'_> {
    /// A complete response with text, in the shape that nearly all have. `false` if it has another, or does not fit
    /// one block: nothing is written then.
    #[inline(always)]
    pub(crate) fn plain(&mut self, body: &[u8]) -> bool {
        let usual = self.plan == Plan::PLAIN && self.status == Status::OK;
        if !usual || !self.added.is_empty() || self.hooks.is_some() {
            return false;
        }
        let digit = |n: usize| b"0123456789".get(n % 10).copied().unwrap_or(b'0');
        let ones = digit(body.len());
        match body.len() {
            0..10 => self.put([ones, b'\r', b'\n', b'\r', b'\n'], body),
            10..100 => self.put([digit(body.len() / 10), ones, b'\r', b'\n', b'\r', b'\n'], body),
            _ => false,
        }
    }

    /// The fixed part, the end of the head and the body, written in place.
    #[inline(always)]
    fn put<const TAIL: usize>(&mut self, tail: [u8; TAIL], body: &[u8]) -> bool {
        let Some(fixed) = self.fixed.plain() else { return false };
        let size = Fixed::PLAIN + TAIL + body.len();
        let Ok(place) = self.output.reserve(size) else { return false };
        let Some((start, rest)) = place.split_first_chunk_mut::<{ Fixed::PLAIN }>() else { return false };
        let Some((end, rest)) = rest.split_first_chunk_mut::<TAIL>() else { return false };
        *start = *fixed;
        *end = tail;
        rest.copy_from_slice(body);
        self.output.commit(size);
        true
    }

    /// A complete response of any kind. If it does not fit, nothing is written.
    #[inline(never)]
    pub(crate) fn whole(&mut self, content_type: &[u8], body: &[u8]) -> Result<(), Full> {
        self.run_hooks();
        if self.added.failed || self.status.is_interim() {
            return Err(Full);
        }
        let mark = self.output.mark();
        self.refuse_body();
        let head = self.head(content_type, Extent::Length(body.len() as u64));
        let send = self.status.has_body() && !self.plan.bodiless;
        let result = head.and_then(|()| if send { self.output.send(body) } else { Ok(()) });
        if result.is_err() {
            self.output.rewind(mark);
        }
        result
    }

    /// The head of a response whose body follows; tells how. With `Whole`, none may follow.
    #[inline(never)]
    pub(crate) fn start(&mut self, extent: Extent) -> Result<Outgoing, Full> {
        self.run_hooks();
        if self.added.failed || self.status.is_interim() {
            return Err(Full);
        }
        let mark = self.output.mark();
        if extent == Extent::Unknown && self.plan.old {
            self.plan.keep_alive = false;
        }
        let result = self.leave().and_then(|()| self.head(b"", extent));
        if result.is_err() {
            self.output.rewind(mark);
        }
        result?;
        Ok(match extent {
            _ if self.plan.bodiless || !self.status.has_body() => Outgoing::Whole,
            Extent::Length(length) => Outgoing::Length(Count::new(length)),
            Extent::Unknown if self.plan.old => Outgoing::Raw,
            Extent::Unknown => Outgoing::Chunked,
        })
    }

    /// Tells a client that waits for it to send its body.
    pub(crate) fn leave(&mut self) -> Result<(), Full> {
        if self.plan.expects_continue {
            self.output.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.plan.expects_continue = false;
        }
        Ok(())
    }

    /// Answers without the body. A client that was not given leave may send the body or the next request: nobody
    /// can tell which, so the connection ends.
    pub(crate) const fn refuse_body(&mut self) {
        if self.plan.expects_continue {
            self.plan.expects_continue = false;
            self.plan.keep_alive = false;
        }
    }

    fn run_hooks(&mut self) {
        let mut next = self.hooks;
        while let Some(hook) = next {
            hook.middleware.head(self.status, &mut Headers(self.added));
            next = hook.outer;
        }
    }

    fn head(&mut self, content_type: &[u8], extent: Extent) -> Result<(), Full> {
        let Self { output, fixed, added, plan, status, .. } = self;
        let mut digits = [0; 20];
        output.send(b"HTTP/1.1 ")?;
        output.send(decimal(u64::from(status.code()), &mut digits))?;
        output.send(b" ")?;
        output.send(status.phrase().as_bytes())?;
        output.send(b"\r\n")?;
        output.send(if added.own_server { b"" } else { fixed.server() })?;
        output.send(if added.own_date { b"" } else { fixed.date() })?;
        output.send(if added.own_type || !status.has_body() { b"" } else { content_type })?;
        output.send(added.lines())?;
        output.send(match (plan.keep_alive, plan.old) {
            (true, false) => b"",
            (true, true) => b"Connection: keep-alive\r\n",
            (false, _) => b"Connection: close\r\n",
        })?;
        match extent {
            _ if !status.has_body() => output.send(b"\r\n"),
            Extent::Length(length) => {
                output.send(b"Content-Length: ")?;
                output.send(decimal(length, &mut digits))?;
                output.send(b"\r\n\r\n")
            }
            Extent::Unknown if plan.old => output.send(b"\r\n"),
            Extent::Unknown => output.send(b"Transfer-Encoding: chunked\r\n\r\n"),
        }
    }

    /// A short text that says the status, for what the server answers by itself.
    pub(crate) fn by_itself(&mut self, status: Status) -> Result<u64, Full> {
        self.status = status;
        let mut digits = [0; 20];
        let mut text = [0; 64];
        let mut used = 0;
        for piece in [decimal(u64::from(status.code()), &mut digits), b" ", status.phrase().as_bytes(), b"\n"]
        {
            if let Some(place) = text.get_mut(used..used + piece.len()) {
                place.copy_from_slice(piece);
                used += piece.len();
            }
        }
        self.whole(TEXT, text.get(..used).unwrap_or(&[])).map(|()| used as u64)
    }
}

/// The line for a body of text.
pub(crate) const fn text_line() -> &'static [u8] {
    TEXT
}
