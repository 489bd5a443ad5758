//! The server's own types, types that a user makes, and those of extensions.

use support::Random;

use super::documents::any_json;
use super::numbers::{decimal, double, integer, small_decimal};
use super::texts::{short_text, text};
use super::times::{moment, span};
use super::{Type, add, add_readable, add_unreadable, array, edge};
use crate::spelling::{Of, quoted};

pub(super) fn server_s_own(types: &mut Vec<Type>) {
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

pub(super) fn address(random: &mut Random) -> String {
    let street = sometimes(random, text);
    let zip = sometimes(random, |r| integer(r, 31));
    let ok = sometimes(random, |r| (*r.of(&["t", "f"])).to_owned());
    row(&[street, zip, ok])
}

fn unreadable(of: Of) -> Of {
    Of::UnreadableArray(of.into())
}

pub(super) fn enums_and_composites(types: &mut Vec<Type>) {
    fn mood(r: &mut Random) -> String {
        (*r.of(&["sad", "happy", "with space", "qu\"o'te", "NULL", ""])).to_owned()
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
}

pub(super) fn domains(types: &mut Vec<Type>) {
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

pub(super) fn extension_types(types: &mut Vec<Type>, name: &str) {
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
