//! Dates and times as Sequin spells them → as PostgreSQL reads them.

#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::civil;

/// Microseconds from 1970 to 2000, the server's epoch.
const UNIX_TO_2000: i128 = 946_684_800_000_000;
const MICROS_PER_DAY: i128 = 86_400_000_000;
/// `MIN_TIMESTAMP` and `END_TIMESTAMP` of `datatype/timestamp.h`.
const FIRST: i128 = -211_813_488_000_000_000;
const END: i128 = 9_223_371_331_200_000_000;

/// Spells a date or timestamp. `inf` is an infinity. A year that is not positive is a year BC: since the BC
/// era has no year 0, `-0043-03-15` is `0044-03-15 BC`. Any other text stays as it is.
pub(super) fn calendar(text: &str, out: &mut String) {
    match text {
        "inf" => out.push_str("infinity"),
        "-inf" => out.push_str("-infinity"),
        _ => match year_before_christ(text) {
            Some((year, rest)) => {
                let _ = write!(out, "{year:04}{rest} BC");
            }
            None => out.push_str(text),
        },
    }
}

fn year_before_christ(text: &str) -> Option<(u32, &str)> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = rest.split_at(digits);
    if digits < 4 || !rest.starts_with('-') {
        return None;
    }
    let year = year.parse::<u32>().ok()?;
    (negative || year == 0).then_some((year.checked_add(1)?, rest))
}

/// Spells a time of day. The input functions also read a timestamp, but not the `T` in it.
pub(super) fn clock(text: &str, out: &mut String) {
    match text.split_once('T') {
        Some((day, clock)) if day.ends_with(|last: char| last.is_ascii_digit()) => {
            out.push_str(day);
            out.push(' ');
            out.push_str(clock);
        }
        _ => out.push_str(text),
    }
}

/// Spells a date range. `(empty,empty)` is `empty`. The bounds of any other range are dates.
pub(super) fn date_range(text: &str, out: &mut String) {
    if text == "(empty,empty)" {
        out.push_str("empty");
        return;
    }
    let bounds = text
        .strip_prefix(['[', '('])
        .and_then(|rest| rest.strip_suffix([']', ')']))
        .and_then(|rest| rest.split_once(','));
    match bounds {
        Some((lower, upper)) => {
            out.push_str(&text[..1]);
            calendar(lower, out);
            out.push(',');
            calendar(upper, out);
            out.push_str(&text[text.len() - 1..]);
        }
        None => out.push_str(text),
    }
}

/// Converts microseconds since 1970 into microseconds since 2000; `None` outside of the server's range.
pub(super) fn since_2000(unix: i128) -> Option<i64> {
    let micros = unix - UNIX_TO_2000;
    (FIRST..END).contains(&micros).then_some(micros as i64)
}

/// Spells the timestamp that is `unix` microseconds after 1970, with or without a zone; `None` outside of
/// the server's range.
pub(super) fn timestamp(unix: i128, zone: bool, out: &mut String) -> Option<()> {
    since_2000(unix)?;
    let (year, month, day) = civil::date(unix.div_euclid(MICROS_PER_DAY) as i64);
    let micros = unix.rem_euclid(MICROS_PER_DAY);
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let zone = if zone { "+00" } else { "" };
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}{zone}{era}"
    );
    Some(())
}
