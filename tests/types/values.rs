//! Types, and values of each: random ones, with the awkward among them more often than chance would have it. A value is
//! a text for the type's input function, which may refuse it.

use super::spelling::{Of, quote, quoted};
use super::support::Random;

/// A type of a column.
pub struct Type {
    /// As SQL writes it.
    pub sql: String,
    /// What it is to Sequin.
    pub of: Of,
    make: Make,
}

type Make = Box<dyn Fn(&mut Random) -> String>;

impl Type {
    /// A value.
    pub fn value(&self, random: &mut Random) -> String {
        (self.make)(random)
    }
}

/// What the types are made of; those of extensions are named in [`EXTENSIONS`].
pub const TYPES: &str = r#"
    create schema "Odd Schema";
    create type mood as enum ('sad', 'happy', 'with space', 'qu"o''te', 'NULL', '');
    create type "Odd Schema"."Mood ""x""" as enum ('Ä', 'b,c');
    create type addr as (street text, zip int, ok bool);
    create type "Odd Schema"."Addr" as ("Street ""x""" text, "select" numeric, at timestamptz);
    create type deep as (id bigint, home addr, homes addr[], doc jsonb, tags text[], every interval);
    create type floatrange as range (subtype = float8);
    create domain posint as int check (value > 0);
    create domain dom2 as posint check (value < 1000);
    create domain money_d as numeric(10,2);
    create domain short as varchar(5);
    create domain list as int[] check (cardinality(value) < 100);
    create domain jsond as jsonb;
    create domain jsondd as jsond;
    create domain boold as bool;
    create domain spand as interval;
    create domain tsd as timestamptz;
    create domain uuidd as uuid;
    create domain bytead as bytea;
    create domain moodd as mood;
    create domain addrd as addr;
"#;

/// Extensions with types.
pub const EXTENSIONS: [&str; 7] = [
    "citext", "hstore", "ltree", "cube", "seg", "isn", "intarray",
];

/// Every type, those of these extensions too.
pub fn types(extensions: &[&str]) -> Vec<Type> {
    let mut types = Vec::new();
    numbers(&mut types);
    texts(&mut types);
    times(&mut types);
    documents(&mut types);
    ranges(&mut types);
    networks_and_bits(&mut types);
    shapes(&mut types);
    server_s_own(&mut types);
    made_types(&mut types);
    for name in extensions {
        extension_types(&mut types, name);
    }
    types
}

/// Types whose arrays Sequin has in one dimension: it cuts boxes where it should not, and a list in a list of documents
/// is a document.
const ONE_DIMENSION: [&str; 4] = ["box", "json", "jsonb", "jsond"];

/// A type and its array.
fn add(types: &mut Vec<Type>, sql: &str, of: Of, array: Of, make: fn(&mut Random) -> String) {
    types.push(Type {
        sql: sql.to_owned(),
        of,
        make: Box::new(make),
    });
    let delimiter = if sql == "box" { ';' } else { ',' };
    let most = if ONE_DIMENSION.contains(&sql) { 1 } else { 3 };
    let make = Box::new(move |random: &mut Random| self::array(random, delimiter, most, make));
    types.push(Type {
        sql: format!("{sql}[]"),
        of: array,
        make,
    });
}

/// A type whose array a read has.
fn add_readable(types: &mut Vec<Type>, sql: &str, of: Of, make: fn(&mut Random) -> String) {
    add(types, sql, of.clone(), Of::Array(of.into()), make);
}

/// A type that is null in reads, and so is its array.
fn add_unreadable(types: &mut Vec<Type>, sql: &str, make: fn(&mut Random) -> String) {
    let array = Of::UnreadableArray(Of::Unreadable.into());
    add(types, sql, Of::Unreadable, array, make);
}

/// A type that is null in reads; at its array they fail.
fn add_failing(types: &mut Vec<Type>, sql: &str, make: fn(&mut Random) -> String) {
    let array = Of::FailingArray(Of::Unreadable.into());
    add(types, sql, Of::Unreadable, array, make);
}

/// An array's literal, of up to three dimensions, now and then with lower bounds of its own.
fn array(
    random: &mut Random,
    delimiter: char,
    most: usize,
    make: fn(&mut Random) -> String,
) -> String {
    if random.below(10) == 0 {
        return "{}".to_owned();
    }
    let dimensions: Vec<_> = (0..*random.of(&[1, 1, 1, 2, most]))
        .take(most)
        .map(|_| 1 + random.below(4))
        .collect();
    let mut text = String::new();
    if random.below(12) == 0 {
        for count in &dimensions {
            let lower = random.below(7) as i64 - 3;
            text += &format!("[{lower}:{}]", lower + *count as i64 - 1);
        }
        text.push('=');
    }
    fill(random, delimiter, make, &dimensions, &mut text);
    text
}

fn fill(
    random: &mut Random,
    delimiter: char,
    make: fn(&mut Random) -> String,
    dimensions: &[u64],
    text: &mut String,
) {
    let Some((count, inner)) = dimensions.split_first() else {
        match random.below(6) {
            0 => text.push_str("NULL"),
            _ => text.push_str(&quoted(&make(random))),
        }
        return;
    };
    text.push('{');
    for i in 0..*count {
        if i > 0 {
            text.push(delimiter);
        }
        fill(random, delimiter, make, inner, text);
    }
    text.push('}');
}

/// One of these, a third of the time; else what `make` gives.
fn edge(random: &mut Random, edges: &[&str], make: impl FnOnce(&mut Random) -> String) -> String {
    match random.below(3) {
        0 => (*random.of(edges)).to_owned(),
        _ => make(random),
    }
}

/// A number of up to so many bits, small ones as often as large.
fn integer(random: &mut Random, bits: u64) -> String {
    let magnitude = random.below(1 << 52) << 11 | random.below(1 << 11);
    let magnitude = magnitude >> (64 - bits + random.below(bits - 1)).min(63);
    format!("{}{magnitude}", random.of(&["", "-"]))
}

fn digits(random: &mut Random, most: u64) -> String {
    let only = *random.of(&["0123456789", "0123456789", "09", "0", "9"]);
    (0..random.below(most + 1))
        .map(|_| char::from(*random.of(only.as_bytes())))
        .collect()
}

fn decimal(random: &mut Random) -> String {
    let most = *random.of(&[3, 8, 8, 30, 30, 200, 3000]);
    let (sign, whole) = (*random.of(&["", "-"]), digits(random, most));
    let fraction = if random.below(3) > 0 {
        digits(random, most)
    } else {
        String::new()
    };
    format!("{sign}0{whole}.{fraction}")
}

fn small_decimal(random: &mut Random) -> String {
    format!("{}.{:02}", integer(random, 24), random.below(100))
}

fn double(random: &mut Random) -> String {
    let bits = random.below(1 << 52) << 12 ^ random.below(1 << 52);
    match random.below(4) {
        0 => small_decimal(random),
        1 => format!("{}", random.below(1000) as i64 - 500),
        _ => {
            let number = f64::from_bits(bits);
            if number.is_finite() {
                format!("{number:e}")
            } else {
                "1".to_owned()
            }
        }
    }
}

fn single(random: &mut Random) -> String {
    let number = f32::from_bits(random.below(1 << 32) as u32);
    if number.is_finite() {
        format!("{number:e}")
    } else {
        small_decimal(random)
    }
}

fn numbers(types: &mut Vec<Type>) {
    add_readable(types, "bool", Of::Bool, |r| (*r.of(&["t", "f"])).to_owned());
    add_readable(types, "int2", Of::Number, |r| {
        edge(r, &["-32768", "32767", "0"], |r| integer(r, 15))
    });
    add_readable(types, "int4", Of::Number, |r| {
        edge(r, &["-2147483648", "2147483647", "0"], |r| integer(r, 31))
    });
    add_readable(types, "int8", Of::Number, |r| {
        let edges = [
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740993",
            "-9007199254740993",
            "0",
        ];
        edge(r, &edges, |r| integer(r, 63))
    });
    add_readable(types, "oid", Of::Number, |r| {
        edge(r, &["0", "4294967295", "2147483648"], |r| {
            r.below(1 << 32).to_string()
        })
    });
    add_readable(types, "float4", Of::Float4, |r| {
        let edges = [
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "0.1",
            "3.4028235e38",
            "1e-45",
            "1.1754944e-38",
            "16777217",
        ];
        edge(r, &edges, single)
    });
    add_readable(types, "float8", Of::Float8, |r| {
        let edges = [
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "0",
            "5e-324",
            "-5e-324",
            "2.2250738585072011e-308",
            "1.7976931348623157e308",
            "0.1",
            "0.30000000000000004",
            "1e15",
            "1e16",
            "1e21",
            "123456789012345680",
            "9007199254740993",
        ];
        edge(r, &edges, double)
    });
    add_readable(types, "numeric", Of::Text, |r| {
        let edges = [
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.00",
            "-0.5",
            "1e30",
            "1e-300",
            "1e1000",
            "99999999999999999999",
            "10000",
            "0.0001",
            "1.50",
        ];
        edge(r, &edges, decimal)
    });
    add_readable(types, "numeric(10,2)", Of::Text, |r| {
        edge(
            r,
            &["NaN", "99999999.99", "-99999999.99", "0", "0.005"],
            small_decimal,
        )
    });
    add_readable(types, "numeric(500,200)", Of::Text, decimal);
    add_unreadable(types, "money", |r| {
        let edges = [
            "92233720368547758.07",
            "-92233720368547758.08",
            "-0.5",
            "1234.56",
            "0",
        ];
        edge(r, &edges, small_decimal)
    });
}

const PIECES: [&str; 32] = [
    "NULL",
    "null",
    "a",
    "b",
    " ",
    "\\",
    "\"",
    "{",
    "}",
    ",",
    "'",
    "é",
    "😀",
    "\n",
    "\t",
    "\u{1}",
    "\u{2028}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ":",
    "$$",
    "\\x41",
    "\\u0041",
    "unchanged_toast",
    "=>",
    "<script>/",
    "\r",
    "\u{7f}",
    "\u{a0}",
];

/// What literals, JSON and SQL are most easily wrong about.
fn text(random: &mut Random) -> String {
    match random.below(12) {
        0 => String::new(),
        1 => (*random.of(&PIECES)).to_owned(),
        2 if random.below(8) == 0 => "Žluťoučký \"kůň\" ".repeat(random.below(900) as usize),
        _ => (0..random.below(9)).map(|_| *random.of(&PIECES)).collect(),
    }
}

fn short_text(random: &mut Random) -> String {
    text(random).chars().take(5).collect()
}

fn texts(types: &mut Vec<Type>) {
    add_readable(types, "text", Of::Text, text);
    add_readable(types, "text collate \"C\"", Of::Text, text);
    types.pop(); // an array has its collation in another place
    add_readable(types, "varchar", Of::Text, text);
    add_readable(types, "varchar(5)", Of::Text, short_text);
    add_unreadable(types, "char(5)", short_text);
    add_unreadable(types, "\"char\"", |r| {
        (*r.of(&["x", "\"", "\\", ",", "", " "])).to_owned()
    });
    add_readable(types, "name", Of::Text, short_text);
    add_readable(types, "uuid", Of::Uuid, |r| {
        let edges = [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        ];
        edge(r, &edges, |r| {
            let [a, b, c] = [1 << 32, 1 << 48, 1 << 48].map(|limit| r.below(limit));
            format!(
                "{a:08x}-{:04x}-{:04x}-{:04x}-{c:012x}",
                b >> 32,
                b >> 16 & 0xffff,
                b & 0xffff
            )
        })
    });
    add_readable(types, "bytea", Of::Bytea, |r| {
        let edges = [
            "\\x",
            "\\x00ff",
            "\\x5c783431",
            "\\x5c7834",
            "\\x48656c6c6f",
            "\\x5c",
        ];
        edge(r, &edges, |r| {
            let count = *r.of(&[1, 5, 40, 3000]);
            (0..r.below(count)).fold("\\x".to_owned(), |t, _| {
                t + &format!("{:02x}", r.below(256))
            })
        })
    });
    add_unreadable(types, "xml", |r| {
        let edges = [
            "<a>1</a>",
            "",
            "a &amp; b",
            "<a b=\"c,d\">é😀</a><b/>",
            "<?xml version=\"1.0\" standalone=\"yes\"?><x/>",
        ];
        (*r.of(&edges)).to_owned()
    });
}

fn date(random: &mut Random) -> String {
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

fn moment(random: &mut Random) -> String {
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

fn span(random: &mut Random) -> String {
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

fn times(types: &mut Vec<Type>) {
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

/// A document; without decimals Sequin loses nothing of it.
fn json(random: &mut Random, depth: u64, decimals: bool) -> String {
    let count = random.below(4);
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => (*random.of(&["null", "true", "false", "[]", "{}"])).to_owned(),
        1 => {
            let most = *random.of(&[3, 20, 30, 400]);
            let digits = digits(random, most);
            let digits = digits.trim_start_matches('0');
            format!("{}1{digits}", random.of(&["", "-"]))
        }
        2 if decimals => (*random.of(&[
            "2.50",
            "1e2",
            "0.1",
            "-1.5E-7",
            "12345678901234567890.123",
            "-0.0",
        ]))
        .to_owned(),
        2..6 => quote(&text(random)),
        6 | 7 => {
            let items: Vec<_> = (0..count)
                .map(|_| json(random, depth - 1, decimals))
                .collect();
            format!("[{}]", items.join(*random.of(&[",", ", "])))
        }
        _ => {
            let members: Vec<_> = (0..count)
                .map(|n| {
                    let key = quote(&format!("{}{n}", short_text(random)));
                    format!("{key}:{}", json(random, depth - 1, decimals))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

fn any_json(random: &mut Random) -> String {
    let (depth, decimals) = (random.below(4), random.below(4) == 0);
    json(random, depth, decimals)
}

fn documents(types: &mut Vec<Type>) {
    add_readable(types, "json", Of::Json, |r| {
        edge(
            r,
            &["{\"n\":\"\\u0000\"}", "{\"a\":1,\"a\":2}", "null"],
            any_json,
        )
    });
    add_readable(types, "jsonb", Of::Jsonb, |r| {
        edge(
            r,
            &["null", "123456789012345678901234567890", "1E400", "\"str\""],
            any_json,
        )
    });
    add_readable(types, "tsvector", Of::TsVector, |r| {
        let words = ["a", "it''s", "b\\\\c", "é", "\"q\"", "x,y", "NULL", "{}"];
        (0..r.below(5))
            .map(|_| match r.below(3) {
                0 => format!("'{}' ", r.of(&words)),
                _ => format!(
                    "'{}':{}{} ",
                    r.of(&words),
                    1 + r.below(200),
                    r.of(&["", "A", "B,3", "C"])
                ),
            })
            .collect()
    });
    add_unreadable(types, "tsquery", |r| {
        (*r.of(&[
            "'a' & 'b'",
            "!'c' | 'd':AB*",
            "'it''s' <-> 'x'",
            "",
            "'a' <3> ('b' | 'c')",
        ]))
        .to_owned()
    });
    add_unreadable(types, "jsonpath", |r| {
        (*r.of(&[
            "$.\"a\"",
            "$[*]?(@.\"b\" > 1 && @.\"c\" == \"x,\\\"y\")",
            "strict $",
            "$.**{2 to 3}",
        ]))
        .to_owned()
    });
}

/// Two bounds in any order, so that the server refuses about half of them.
fn range(random: &mut Random, bound: fn(&mut Random) -> String) -> String {
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

fn ranges(types: &mut Vec<Type>) {
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

fn networks_and_bits(types: &mut Vec<Type>) {
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

fn shapes(types: &mut Vec<Type>) {
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

fn server_s_own(types: &mut Vec<Type>) {
    for (sql, make) in [
        (
            "xid",
            (|r| r.below(1 << 32).to_string()) as fn(&mut Random) -> String,
        ),
        ("xid8", |r| {
            edge(r, &["0", "18446744073709551615"], |r| {
                r.below(1 << 50).to_string()
            })
        }),
        ("tid", |r| {
            format!("({},{})", r.below(1 << 32), r.below(1 << 16))
        }),
        ("pg_lsn", |r| {
            edge(r, &["0/0", "FFFFFFFF/FFFFFFFF"], |r| {
                format!("{:X}/{:X}", r.below(1 << 32), r.below(1 << 32))
            })
        }),
        ("regclass", |r| {
            (*r.of(&["pg_class", "\"Odd Schema\".\"Table X\"", "-"])).to_owned()
        }),
        ("regtype", |r| {
            (*r.of(&[
                "integer",
                "timestamp with time zone",
                "text[]",
                "\"Odd Schema\".\"Addr\"",
            ]))
            .to_owned()
        }),
        ("regproc", |r| {
            (*r.of(&["now", "pg_typeof", "-"])).to_owned()
        }),
        ("regprocedure", |r| {
            (*r.of(&["lower(text)", "abs(integer)"])).to_owned()
        }),
        ("regoperator", |r| {
            (*r.of(&["+(integer,integer)", "||(text,text)"])).to_owned()
        }),
        ("regnamespace", |r| {
            (*r.of(&["pg_catalog", "\"Odd Schema\""])).to_owned()
        }),
        ("regrole", |r| {
            (*r.of(&["postgres", "pg_monitor"])).to_owned()
        }),
        ("regconfig", |r| (*r.of(&["english", "simple"])).to_owned()),
    ] {
        add_unreadable(types, sql, make);
    }
    for sql in ["txid_snapshot", "pg_snapshot"] {
        let make = |r: &mut Random| {
            (*r.of(&[
                "10:20:10,14,15",
                "1:1:",
                "9007199254740993:9007199254740999:",
            ]))
            .to_owned()
        };
        add(
            types,
            sql,
            Of::Unread,
            Of::FailingArray(Of::Unread.into()),
            make,
        );
    }
}

/// A row's literal.
fn row(fields: &[Option<String>]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|field| field.as_deref().map(quoted).unwrap_or_default())
        .collect();
    format!("({})", fields.join(","))
}

fn sometimes(random: &mut Random, make: impl FnOnce(&mut Random) -> String) -> Option<String> {
    (random.below(5) > 0).then(|| make(random))
}

fn address(random: &mut Random) -> String {
    let street = sometimes(random, text);
    let zip = sometimes(random, |r| integer(r, 31));
    let ok = sometimes(random, |r| (*r.of(&["t", "f"])).to_owned());
    row(&[street, zip, ok])
}

fn made_types(types: &mut Vec<Type>) {
    fn mood(r: &mut Random) -> String {
        (*r.of(&["sad", "happy", "with space", "qu\"o'te", "NULL", ""])).to_owned()
    }
    fn unreadable(of: Of) -> Of {
        Of::UnreadableArray(of.into())
    }
    add(types, "mood", Of::Text, unreadable(Of::Text), mood);
    add(types, "moodd", Of::Text, unreadable(Of::Text), mood);
    let odd = "\"Odd Schema\".\"Mood \"\"x\"\"\"";
    add(types, odd, Of::Text, unreadable(Of::Text), |r| {
        (*r.of(&["Ä", "b,c"])).to_owned()
    });
    add_unreadable(types, "addr", address);
    add_unreadable(types, "addrd", address);
    add_unreadable(types, "\"Odd Schema\".\"Addr\"", |r| {
        let fields = [
            sometimes(r, text),
            sometimes(r, decimal),
            sometimes(r, moment),
        ];
        row(&fields)
    });
    add_unreadable(types, "deep", |r| {
        let id = sometimes(r, |r| integer(r, 63));
        let home = sometimes(r, address);
        let homes = sometimes(r, |r| array(r, ',', 3, address));
        let doc = sometimes(r, any_json);
        let tags = sometimes(r, |r| array(r, ',', 3, text));
        let every = sometimes(r, span);
        row(&[id, home, homes, doc, tags, every])
    });
    add(types, "posint", Of::Number, unreadable(Of::Text), |r| {
        (1 + r.below(1 << 31)).to_string()
    });
    add(
        types,
        "dom2",
        Of::NumberInReads,
        unreadable(Of::Text),
        |r| (1 + r.below(999)).to_string(),
    );
    add(
        types,
        "money_d",
        Of::Text,
        unreadable(Of::Text),
        small_decimal,
    );
    add(types, "short", Of::Text, unreadable(Of::Text), short_text);
    add(
        types,
        "jsond",
        Of::Jsonb,
        unreadable(Of::Unreadable),
        any_json,
    );
    add(types, "boold", Of::Bool, unreadable(Of::Unreadable), |r| {
        (*r.of(&["t", "f"])).to_owned()
    });
    add(
        types,
        "spand",
        Of::Interval,
        unreadable(Of::Unreadable),
        span,
    );
    types.push(Type {
        sql: "jsondd".to_owned(),
        of: Of::Unread,
        make: Box::new(any_json),
    });
    add(
        types,
        "tsd",
        Of::Timestamp(6, true),
        unreadable(Of::Unreadable),
        moment,
    );
    // a read of a domain over these fails
    types.push(Type {
        sql: "uuidd".to_owned(),
        of: Of::Unread,
        make: Box::new(|r| {
            format!(
                "{:08x}-0000-4000-8000-{:012x}",
                r.below(1 << 32),
                r.below(1 << 48)
            )
        }),
    });
    types.push(Type {
        sql: "bytead".to_owned(),
        of: Of::Unread,
        make: Box::new(|r| format!("\\x{:08x}", r.below(1 << 32))),
    });
    let make = Box::new(|r: &mut Random| array(r, ',', 3, |r| integer(r, 31)));
    types.push(Type {
        sql: "list".to_owned(),
        of: Of::FailingArray(Of::Number.into()),
        make,
    });
}

fn extension_types(types: &mut Vec<Type>, name: &str) {
    // which were never seen in a read
    let unread = (Of::Unread, Of::FailingArray(Of::Unread.into()));
    match name {
        "seg" => add(types, "seg", unread.0, unread.1, |r| {
            (*r.of(&["1 .. 2", "~1.50", "<5", "3(+-)0.5", "-1e-07"])).to_owned()
        }),
        "isn" => add(types, "isbn13", unread.0, unread.1, |r| {
            (*r.of(&["978-0-393-04002-9", "9780061120084", "978-3-16-148410-0"])).to_owned()
        }),
        "intarray" => add(types, "query_int", unread.0, unread.1, |r| {
            (*r.of(&["1 & (2 | !3)", "42"])).to_owned()
        }),
        "citext" => add_readable(types, "citext", Of::Text, text),
        "hstore" => add_readable(types, "hstore", Of::Hstore, |r| {
            let members: Vec<_> = (0..r.below(5))
                .map(|_| {
                    let key = quoted(&short_text(r));
                    match r.below(4) {
                        0 => format!("{key}=>NULL"),
                        _ => format!("{key}=>{}", quoted(&text(r))),
                    }
                })
                .collect();
            members.join(",")
        }),
        "ltree" => {
            add_unreadable(types, "ltree", |r| {
                (*r.of(&["a.b.c", "", "Top.Science_1.x", "a"])).to_owned()
            });
            add_unreadable(types, "lquery", |r| {
                (*r.of(&["*.a.*", "a|b.!c@*{1,2}"])).to_owned()
            });
        }
        "cube" => add_unreadable(types, "cube", |r| {
            format!("({}, 2),(3, {})", double(r), double(r))
        }),
        name => panic!("{name}"),
    }
}
