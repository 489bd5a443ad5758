//! Dates, times and intervals.

use support::Random;

use super::numbers::integer;
use super::{Type, add, add_readable, edge};
use crate::spelling::Of;

pub(super) fn date(random: &mut Random) -> String {
    let edges = [
        "infinity",
        "-infinity",
        "4714-11-24 BC",
        "0044-03-15 BC",
        "0001-12-31 BC",
        "0001-01-01",
        "9999-12-31",
        "10000-01-01",
        "12024-02-29",
        "5874897-12-31",
        "2024-02-29",
        "1582-10-10",
        "2000-01-01",
        "1999-12-31",
    ];
    edge(random, &edges, day)
}

fn day(random: &mut Random) -> String {
    let last = *random.of(&[9999, 200, 3000]);
    let [year, month, day] = [last, 12, 28].map(|limit| 1 + random.below(limit));
    format!("{year:04}-{month:02}-{day:02}")
}

fn clock(random: &mut Random) -> String {
    let edges = [
        "00:00:00",
        "24:00:00",
        "23:59:59.999999",
        "23:59:60",
        "04:05:06",
        "12:00:00.000001",
    ];
    edge(random, &edges, |r| {
        let [h, m, s] = [24, 60, 60].map(|limit| r.below(limit));
        match r.below(3) {
            0 => format!("{h:02}:{m:02}:{s:02}"),
            1 => format!("{h:02}:{m:02}:{s:02}.{}", r.below(1000)),
            _ => format!("{h:02}:{m:02}:{s:02}.{:06}", r.below(1_000_000)),
        }
    })
}

fn zoned_clock(random: &mut Random) -> String {
    let zones = [
        "+00",
        "+02",
        "-08:30",
        "+15:59:59",
        "-15:59",
        "+05:45",
        "+02:30:15",
        "-00:00:01",
    ];
    format!("{}{}", clock(random), random.of(&zones))
}

pub(super) fn moment(random: &mut Random) -> String {
    let edges = [
        "infinity",
        "-infinity",
        "0044-03-15 00:00:00 BC",
        "4714-11-24 00:00:00 BC",
        "0001-12-31 23:59:59.999999 BC",
        "12024-01-01 00:00:00",
        "294276-12-31 23:59:59",
        "2024-10-28 21:37:01.12747",
        "9999-12-31 23:59:59.999999",
        "2016-12-31 23:59:60",
        "1900-01-01 24:00:00",
        "0001-01-01 00:00:00",
    ];
    edge(random, &edges, |r| format!("{} {}", day(r), clock(r)))
}

pub(super) fn span(random: &mut Random) -> String {
    let edges = [
        "0",
        "1 mon",
        "-04:05:06",
        "1 day -00:00:01",
        "-1 year -2 days +03:00",
        "99:59:59.999999",
        "-99:59:59.999999",
        "100:00:00",
        "-100:00:00.000001",
        "1000000 hours",
        "178956970 years 7 mons",
        "-178956970 years -8 mons",
        "2147483647 days",
        "-2147483648 days",
        "1 year 2 mons 3 days 04:05:06.789",
    ];
    edge(random, &edges, |r| {
        let (months, days) = (integer(r, 12), integer(r, 12));
        let [h, m, s, micros] = [110, 60, 60, 1_000_000].map(|limit| r.below(limit));
        let sign = r.of(&["", "-"]);
        format!("{months} mons {days} days {sign}{h}:{m:02}:{s:02}.{micros:06}")
    })
}

pub(super) fn times(types: &mut Vec<Type>) {
    add_readable(types, "date", Of::Date, date);
    for sql in ["time", "time(0)", "time(3)"] {
        add_readable(types, sql, Of::Time, clock);
    }
    add_readable(types, "timetz", Of::TimeTz, zoned_clock);
    for (sql, digits, zone) in [
        ("timestamp", 6, false),
        ("timestamp(0)", 0, false),
        ("timestamptz", 6, true),
        ("timestamptz(3)", 3, true),
    ] {
        add_readable(types, sql, Of::Timestamp(digits, zone), moment);
    }
    for sql in ["interval", "interval(0)", "interval year to month"] {
        let array = Of::FailingArray(Of::Interval.into());
        add(types, sql, Of::Interval, array, span);
    }
}
