//! Dates in fields: formatted in the one form that HTTP sends, parsed in all that it accepts (RFC 9110, 5.6.7).

/// The length of a formatted date.
pub const DATE_LENGTH: usize = 29;

const DAYS: [[u8; 3]; 7] = [*b"Thu", *b"Fri", *b"Sat", *b"Sun", *b"Mon", *b"Tue", *b"Wed"];
const MONTHS: [[u8; 3]; 12] = [
    *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct", *b"Nov",
    *b"Dec",
];

/// Formats a time, in seconds since 1970, as HTTP requires (IMF-fixdate, RFC 9110, 5.6.7). Later times are formatted as
/// the last second of the year 9999.
///
/// ```
/// assert_eq!(&lightcone_http::date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
pub fn date(unix_time: u64) -> [u8; DATE_LENGTH] {
    const LAST: u64 = 253_402_300_799;
    let seconds = unix_time.min(LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);

    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    put(&mut text, 0, pick(&DAYS, days % 7));
    put(&mut text, 5, two(day));
    put(&mut text, 8, pick(&MONTHS, month));
    put(&mut text, 12, two(year / 100));
    put(&mut text, 14, two(year % 100));
    put(&mut text, 17, two(second / 3600));
    put(&mut text, 20, two(second / 60 % 60));
    put(&mut text, 23, two(second % 60));
    text
}

/// Returns the year, the month from 0, and the day from 1 of a day counted since 1970.
///
/// Years are counted from March, so that the leap day is the last day of its year and every month starts at a fixed
/// day.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_MARCH_1970: u64 = 719_468; // from 1 March of the year 0 to 1 January 1970
    let day = days + DAYS_TO_MARCH_1970;
    let (era, day) = (day / 146_097, day % 146_097); // 400 years
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // from March
    let day = day - (153 * month + 2) / 5;
    let next_year = u64::from(month >= 10);
    (400 * era + year + next_year, (month + 2) % 12, day + 1)
}

/// Parses a date of HTTP; returns seconds since 1970.
///
/// The three forms of RFC 9110, 5.6.7 are accepted: that of [`date`], and the obsolete ones of RFC 850 and of C's
/// `asctime`. The name of the day has to be one, but is not compared with the date. A time before 1970 is taken as 0.
/// `now` is needed for the form of RFC 850, whose years have two digits: the year is the latest that is at most 50
/// years after `now`.
///
/// ```
/// use lightcone_http::parse_date;
/// let now = 1_700_000_000;
/// assert_eq!(parse_date(b"Sun, 06 Nov 1994 08:49:37 GMT", now), Some(784_111_777));
/// assert_eq!(parse_date(b"Sunday, 06-Nov-94 08:49:37 GMT", now), Some(784_111_777));
/// assert_eq!(parse_date(b"Sun Nov  6 08:49:37 1994", now), Some(784_111_777));
/// assert_eq!(parse_date(b"6 Nov 1994", now), None);
/// ```
pub fn parse_date(text: &[u8], now: u64) -> Option<u64> {
    const LONG: [&[u8]; 7] =
        [b"Thursday", b"Friday", b"Saturday", b"Sunday", b"Monday", b"Tuesday", b"Wednesday"];
    let comma = text.iter().position(|byte| *byte == b',').unwrap_or(3);
    let (name, rest) = text.split_at_checked(comma)?;
    let (long, day, month, year, time) = match *rest {
        [b',', b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', ref time @ ..] => {
            let year = 100 * number([y1, y2])? + number([y3, y4])?;
            (false, number([d1, d2])?, [m1, m2, m3], year, time.strip_suffix(b" GMT")?)
        }
        [b',', b' ', d1, d2, b'-', m1, m2, m3, b'-', y1, y2, b' ', ref time @ ..] => {
            let latest = civil(now / 86_400).0 + 50;
            let year = latest - (latest + 100 - number([y1, y2])?) % 100;
            (true, number([d1, d2])?, [m1, m2, m3], year, time.strip_suffix(b" GMT")?)
        }
        [b' ', m1, m2, m3, b' ', d1, d2, b' ', ref time @ .., b' ', y1, y2, y3, y4] => {
            let d1 = if d1 == b' ' { b'0' } else { d1 };
            let year = 100 * number([y1, y2])? + number([y3, y4])?;
            (false, number([d1, d2])?, [m1, m2, m3], year, time)
        }
        _ => return None,
    };
    let known = if long { LONG.contains(&name) } else { DAYS.iter().any(|day| day == name) };
    let month = (0..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *time else { return None };
    // A leap second is 60; it is taken as the first second of the next minute.
    let (hour, minute, second) = (number([h1, h2])?, number([m1, m2])?, number([s1, s2])?);
    if !known || day == 0 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // The calendar repeats every 400 years, so the day of an earlier year is checked as one after 1970.
    let before = year < 1970;
    let days = days_since_1970(if before { year + 2000 } else { year }, month, day);
    let exists = civil(days).1 == month && civil(days).2 == day;
    let time = if before { 0 } else { 86_400 * days + 3600 * hour + 60 * minute + second };
    exists.then_some(time)
}

/// Returns the day, counted since 1970, of a year from 1970 on, a month from 0, and a day from 1: the inverse of
/// [`civil`]. For a day that the month does not have, it returns one of another month.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469
}

/// Returns the number of two digits.
const fn number([tens, ones]: [u8; 2]) -> Option<u64> {
    if tens.is_ascii_digit() && ones.is_ascii_digit() {
        return Some((10 * (tens - b'0') + ones - b'0') as u64);
    }
    None
}

fn pick<const N: usize>(names: &[[u8; 3]; N], index: u64) -> [u8; 3] {
    match usize::try_from(index).ok().and_then(|index| names.get(index)) {
        Some(name) => *name,
        None => unreachable!("the name {index} of {N}"),
    }
}

fn two(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

fn put<const N: usize>(text: &mut [u8; DATE_LENGTH], at: usize, piece: [u8; N]) {
    text.split_at_mut(at).1.split_at_mut(N).0.copy_from_slice(&piece);
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn known_dates() {
        let cases: &[(u64, &[u8])] = &[
            (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (86_399, b"Thu, 01 Jan 1970 23:59:59 GMT"),
            (68_169_600, b"Tue, 29 Feb 1972 00:00:00 GMT"),
            (784_111_777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, b"Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, b"Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, b"Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, b"Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (time, expected) in cases {
            assert_eq!(&date(*time), expected, "{time}");
        }
    }

    #[test]
    fn a_formatted_date_is_parsed_in_all_forms() {
        const DAYS_LONG: [&str; 7] =
            ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
        for days in (0..60_000).chain([2_932_896]) {
            let time = days * 86_400 + days % 86_400;
            let text = date(time);
            assert_eq!(parse_date(&text, 0), Some(time), "{}", text.escape_ascii());
            let text = core::str::from_utf8(&text).unwrap();
            let long = DAYS_LONG[usize::try_from(days % 7).unwrap()];
            let (day, month, year, clock) = (&text[5..7], &text[8..11], &text[12..16], &text[17..25]);
            let old = format!("{long}, {day}-{month}-{} {clock} GMT", &year[2..]);
            assert_eq!(parse_date(old.as_bytes(), time), Some(time), "{old}");
            let day = day.strip_prefix('0').map_or(day.into(), |day| format!(" {day}"));
            let c = format!("{} {month} {day} {clock} {year}", &text[..3]);
            assert_eq!(parse_date(c.as_bytes(), 0), Some(time), "{c}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_50_years_ahead() {
        let now = 1_767_225_600; // the first second of 2026
        let table = [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000), ("70", 2070)];
        for (digits, year) in table {
            let text = format!("Sunday, 06-Nov-{digits} 08:49:37 GMT");
            let parsed = parse_date(text.as_bytes(), now).unwrap();
            assert_eq!(civil(parsed / 86_400).0, year, "{digits}");
        }
    }

    #[test]
    fn what_is_no_date() {
        let good = "Sun, 06 Nov 1994 08:49:37 GMT";
        for end in 0..good.len() {
            assert_eq!(parse_date(&good.as_bytes()[..end], 0), None, "{}", &good[..end]);
        }
        let bad = [
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Thu, 00 Jan 1970 00:00:00 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 30 Feb 2000 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:37 1994 GMT",
        ];
        for text in bad {
            assert_eq!(parse_date(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(parse_date(b"Mon, 29 Feb 1960 00:00:00 GMT", 0), Some(0));
        assert_eq!(parse_date(b"Tue, 31 Dec 2024 23:59:60 GMT", 0), Some(1_735_689_600));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let lengths = |year: u64| {
            let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        };
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..200_000 {
            assert_eq!(civil(days), (year, month, day), "day {days}");
            day += 1;
            if day > lengths(year)[usize::try_from(month).unwrap()] {
                (month, day) = (month + 1, 1);
            }
            if month == 12 {
                (year, month) = (year + 1, 0);
            }
        }
    }
}
