//! The value of the `Date` field.

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
