//! Ranges, networks, bits and shapes.

use support::Random;

use super::numbers::{double, small_decimal};
use super::times::{date, moment};
use super::{Type, add, add_failing, add_unreadable, edge};
use crate::spelling::{Of, quoted};

/// Two bounds in any order, so that the server refuses about half of them.
pub(super) fn range(random: &mut Random, bound: fn(&mut Random) -> String) -> String {
    let mut side = || match random.below(5) {
        0 => String::new(),
        _ => quoted(&bound(random)),
    };
    let (lower, upper) = (side(), side());
    match random.below(12) {
        0 => "empty".to_owned(),
        _ => format!(
            "{}{lower},{upper}{}",
            random.of(&["[", "("]),
            random.of(&["]", ")"])
        ),
    }
}

pub(super) fn ranges(types: &mut Vec<Type>) {
    fn whole(r: &mut Random) -> String {
        (r.below(200) as i64 - 100).to_string()
    }
    add_unreadable(types, "int4range", |r| range(r, whole));
    add_unreadable(types, "int8range", |r| range(r, whole));
    add_unreadable(types, "numrange", |r| range(r, small_decimal));
    add_unreadable(types, "floatrange", |r| range(r, double));
    add_unreadable(types, "tsrange", |r| range(r, moment));
    add_unreadable(types, "tstzrange", |r| range(r, moment));
    let dates = |r: &mut Random| range(r, date);
    add(
        types,
        "daterange",
        Of::DateRange,
        Of::UnreadableArray(Of::Unreadable.into()),
        dates,
    );
    fn several(random: &mut Random, range: fn(&mut Random) -> String) -> String {
        let ranges: Vec<_> = (0..random.below(3)).map(|_| range(random)).collect();
        format!("{{{}}}", ranges.join(","))
    }
    add_unreadable(types, "int4multirange", |r| several(r, |r| range(r, whole)));
    add_unreadable(types, "nummultirange", |r| {
        several(r, |r| range(r, small_decimal))
    });
    add_unreadable(types, "tstzmultirange", |r| {
        several(r, |r| range(r, moment))
    });
    add_unreadable(types, "datemultirange", |r| several(r, |r| range(r, date)));
}

pub(super) fn networks_and_bits(types: &mut Vec<Type>) {
    fn address(r: &mut Random) -> String {
        let [a, b, c, d] = [256, 256, 256, 256].map(|limit| r.below(limit));
        let edges = [
            "::1",
            "::ffff:1.2.3.4/128",
            "2001:db8::/32",
            "0.0.0.0/0",
            "fe80::1/10",
        ];
        edge(r, &edges, |r| {
            format!("{a}.{b}.{c}.{d}{}", r.of(&["", "/24", "/0", "/32"]))
        })
    }
    add_failing(types, "inet", address);
    add_failing(types, "cidr", |r| {
        (*r.of(&[
            "10.0.0.0/8",
            "2001:db8::/32",
            "0.0.0.0/0",
            "192.168.1.0/24",
            "10.1.2.3/32",
        ]))
        .to_owned()
    });
    fn bytes(r: &mut Random, count: usize) -> String {
        let bytes: Vec<_> = (0..count)
            .map(|_| format!("{:02x}", r.below(256)))
            .collect();
        bytes.join(":")
    }
    add_failing(types, "macaddr", |r| bytes(r, 6));
    add_unreadable(types, "macaddr8", |r| bytes(r, 8));
    fn bits(r: &mut Random, count: u64) -> String {
        (0..count).map(|_| *r.of(&['0', '1'])).collect()
    }
    add_unreadable(types, "bit(4)", |r| bits(r, 4));
    add_unreadable(types, "bit(64)", |r| bits(r, 64));
    add_unreadable(types, "varbit", |r| {
        let count = r.below(200);
        bits(r, count)
    });
    add_unreadable(types, "varbit(16)", |r| {
        let count = r.below(17);
        bits(r, count)
    });
}

pub(super) fn shapes(types: &mut Vec<Type>) {
    fn point(r: &mut Random) -> String {
        format!(
            "({},{})",
            double(r),
            edge(r, &["NaN", "Infinity", "-0", "1e-300"], double)
        )
    }
    fn points(r: &mut Random) -> String {
        let points: Vec<_> = (0..1 + r.below(4)).map(|_| point(r)).collect();
        points.join(",")
    }
    add_failing(types, "point", point);
    add_failing(types, "line", |r| {
        format!("{{{},{},{}}}", r.below(9), 1 + r.below(9), double(r))
    });
    add_failing(types, "lseg", |r| format!("[{},{}]", point(r), point(r)));
    let array = Of::FailingArray(Of::Box.into());
    add(types, "box", Of::Box, array, |r| {
        format!("{},{}", point(r), point(r))
    });
    add_failing(types, "path", |r| match r.below(2) {
        0 => format!("[{}]", points(r)),
        _ => format!("({})", points(r)),
    });
    add_failing(types, "polygon", |r| format!("({})", points(r)));
    add_failing(types, "circle", |r| {
        format!("<{},{}>", point(r), r.below(1000))
    });
}
