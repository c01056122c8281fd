//! The part that all responses of one second have in common, formatted once.

use crate::date::{DATE_LENGTH, date};

/// The start of most responses, with a date to be replaced.
const PLAIN: &[u8; HeadTemplate::PLAIN] = b"HTTP/1.1 200 OK\r\nServer: lightcone\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ";
const SERVER: usize = 17;
const DATE: usize = SERVER + 19;
const DATE_VALUE: usize = DATE + 6;
const TYPE: usize = DATE_VALUE + DATE_LENGTH + 2;

/// The start of most responses, with the date of the current second.
#[derive(Clone, Debug)]
pub(crate) struct HeadTemplate {
    bytes: [u8; Self::PLAIN],
    /// The formatted second; `None` without a wall clock, and then responses have no date.
    second: Option<u64>,
}

impl HeadTemplate {
    /// The length of [`plain`](Self::plain).
    pub(crate) const PLAIN: usize = 130;
    /// The length of the first part of [`plain`](Self::plain), through the `Date` line.
    pub(crate) const DATED: usize = TYPE;
    /// The `Server` line.
    pub(crate) const SERVER_LINE: &[u8] = PLAIN.split_at(DATE).0.split_at(SERVER).1;

    pub(crate) const fn new() -> Self {
        Self { bytes: *PLAIN, second: None }
    }

    /// Updates the date if the second has changed.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, unix_time: Option<u64>) {
        if unix_time != self.second {
            self.format(unix_time);
        }
    }

    #[cold]
    #[inline(never)]
    fn format(&mut self, unix_time: Option<u64>) {
        self.second = unix_time;
        let place = self.bytes.get_mut(DATE_VALUE..DATE_VALUE + DATE_LENGTH);
        if let (Some(time), Some(place)) = (unix_time, place) {
            place.copy_from_slice(&date(time));
        }
    }

    /// Returns a head of status 200 up to the value of `Content-Length`, with `Server`, `Date` and the `Content-Type`
    /// of a text; `None` without a wall clock.
    #[inline(always)]
    pub(crate) const fn plain(&self) -> Option<&[u8; Self::PLAIN]> {
        match self.second {
            Some(_) => Some(&self.bytes),
            None => None,
        }
    }

    /// Returns the wall clock's time in seconds since 1970; `None` without one.
    pub(crate) const fn second(&self) -> Option<u64> {
        self.second
    }

    /// Returns the `Date` line; empty without a wall clock.
    pub(crate) const fn date(&self) -> &[u8] {
        match self.second {
            Some(_) => self.bytes.split_at(TYPE).0.split_at(DATE).1,
            None => &[],
        }
    }
}

/// Formats `n` in decimal at the end of `buffer`; returns the digits.
pub(crate) fn decimal(mut n: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    for (at, place) in buffer.iter_mut().enumerate().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
        start = at;
        if n == 0 {
            break;
        }
    }
    buffer.split_at(start).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut template = HeadTemplate::new();
        assert_eq!(template.plain(), None);
        assert_eq!((HeadTemplate::SERVER_LINE, template.date()), (&b"Server: lightcone\r\n"[..], &b""[..]));
        template.refresh(Some(784_111_777));
        assert_eq!(template.date(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert!(
            template
                .plain()
                .unwrap()
                .ends_with(b"GMT\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ")
        );
        template.refresh(Some(784_111_778));
        assert_eq!(template.date(), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
        template.refresh(None);
        assert_eq!(template.date(), b"");
    }

    #[test]
    fn numbers() {
        for (n, text) in [(0, "0"), (9, "9"), (10, "10"), (907, "907"), (u64::MAX, "18446744073709551615")] {
            assert_eq!(decimal(n, &mut [0; 20]), text.as_bytes());
        }
    }
}
