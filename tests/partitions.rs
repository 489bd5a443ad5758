//! Partitioned destinations: they end as plain tables do, and a call locks the partitions that its rows are in.

#![forbid(unsafe_code)]

use postgres::Client;
use support::{Database, GUARDS, Message, Random, apply, batch, number, rows, run, send, value};

/// How a table is partitioned: the columns of its key, the statements that make the partitions of the table `part`, and a
/// value of the first column for a number.
struct Kind {
    name: &'static str,
    key: &'static str,
    columns: &'static str,
    by: &'static str,
    parts: fn() -> String,
    value: fn(u64) -> String,
}

fn each(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(";")
}

fn day(n: usize) -> String {
    format!("'2026-01-01'::date + {n}")
}

fn days() -> String {
    each(20, |n| {
        let (from, to) = (day(n), day(n + 1));
        format!("create table p{n} partition of part for values from ({from}) to ({to})")
    })
}

fn quoted(text: String) -> String {
    format!("\"{text}\"")
}

const KINDS: &[Kind] = &[
    Kind {
        name: "days",
        key: "at, id",
        columns: "at timestamptz",
        by: "range (at)",
        parts: days,
        value: |n| quoted(format!("2026-01-{:02}T12:00:00Z", 1 + n)),
    },
    Kind {
        name: "ranges_with_the_rest",
        key: "k, id",
        columns: "k numeric(10, 2)",
        by: "range (k)",
        parts: || {
            each(15, |n| {
                format!("create table p{n} partition of part for values from ({n}) to ({n}.75)")
            }) + "; create table below partition of part for values from (minvalue) to (-1);
                  create table rest partition of part default"
        },
        value: |n| quoted(format!("{}.{}", n as i64 - 2, 25 * (n % 4))),
    },
    Kind {
        name: "two_columns",
        key: "k, id",
        columns: "k varchar(8)",
        by: "range (k, id)",
        parts: || {
            each(12, |n| {
                let (from, to) = (format!("k{:02}", n / 2), format!("k{:02}", n.div_ceil(2)));
                let half = |n: usize| ["minvalue", "6"][n % 2];
                let (low, high) = (half(n), half(n + 1));
                format!(
                    "create table p{n} partition of part for values from ('{from}', {low}) to ('{to}', {high})"
                )
            })
        },
        value: |n| quoted(format!("k{:02}", n % 6)),
    },
    Kind {
        name: "lists",
        key: "k, id",
        columns: "k char(6)",
        by: "list (k)",
        parts: || {
            each(15, |n| {
                format!("create table p{n} partition of part for values in ('it''s{n}', 'or{n}')")
            }) + "; create table rest partition of part default"
        },
        value: |n| quoted(format!("{}{}", ["it's", "or"][n as usize % 2], n % 18)),
    },
    Kind {
        name: "words",
        key: "k, id",
        columns: "k mood",
        by: "list (k)",
        parts: || {
            each(9, |n| {
                format!("create table p{n} partition of part for values in ('m{n}')")
            })
        },
        value: |n| quoted(format!("m{}", n % 9)),
    },
    Kind {
        name: "hashes",
        key: "k, id",
        columns: "k bytea",
        by: "hash (k)",
        parts: || {
            each(64, |n| {
                format!(
                    "create table p{n} partition of part for values with (modulus 64, remainder {n})"
                )
            })
        },
        value: |n| quoted(format!("\\\\x0{}", n % 10)),
    },
    Kind {
        name: "hashes_of_two",
        key: "id, k",
        columns: "k uuid",
        by: "hash (k, id)",
        parts: || {
            each(64, |n| {
                format!(
                    "create table p{n} partition of part for values with (modulus 64, remainder {n})"
                )
            })
        },
        value: |n| quoted(format!("00000000-0000-0000-0000-0000000000{n:02}")),
    },
    Kind {
        name: "levels",
        key: "k, id",
        columns: "k date",
        by: "range (k)",
        parts: || {
            each(10, |n| {
                let (from, to) = (day(2 * n), day(2 * n + 2));
                let sub = each(9, |i| {
                    format!("create table p{n}_{i} partition of p{n} for values in ({i})")
                });
                format!(
                    "create table p{n} partition of part for values from ({from}) to ({to}) partition by list (id);
                     {sub}; create table p{n}_rest partition of p{n} default"
                )
            })
        },
        value: |n| quoted(format!("2026-01-{:02}", 1 + n)),
    },
    Kind {
        name: "few_above_many",
        key: "id, k",
        columns: "k text collate \"C\"",
        by: "list (k)",
        parts: || {
            let part = |name: &str, bound: &str| {
                let sub = each(12, |i| {
                    let to = i + 1;
                    format!(
                        "create table {name}{i} partition of {name} for values from ({i}) to ({to})"
                    )
                });
                format!(
                    "create table {name} partition of part {bound} partition by range (id); {sub}"
                )
            };
            part("eu", "for values in ('eu')") + ";" + &part("rest", "default")
        },
        value: |n| quoted(["eu", "us", "asia"][n as usize % 3].to_owned()),
    },
];

/// Both tables get the same messages; the columns of the partitions stand in another order.
fn mapped(kind: &Kind, guard: &str, options: &str) -> (Database, Client) {
    let database = Database::new(&format!("partitions_{}_{guard}", kind.name));
    let mut client = database.connect();
    let guarded = match guard {
        "columns" => ", sequin_lsn bigint, sequin_idx integer, sequin_committed_at timestamptz",
        _ => "",
    };
    let Kind {
        key, columns, by, ..
    } = kind;
    run(
        &mut client,
        &format!(
            "set client_min_messages = error;
             create type mood as enum ({});
             create table flat (name text, body text, id integer, {columns}, gone boolean {guarded}, primary key ({key}));
             create table part (name text, body text, id integer, {columns}, gone boolean {guarded}) partition by {by};
             {};
             alter table part add primary key ({key})",
            (0..9).map(|n| format!("'m{n}'")).collect::<Vec<_>>().join(", "),
            (kind.parts)()
        ),
    );
    for table in ["flat", "part"] {
        run(
            &mut client,
            &format!(
                "select sequin.map('public.item', '{table}', guard => '{guard}', name => '{table}', {options} on_error => 'raise')"
            ),
        );
    }
    (database, client)
}

/// The rows of a source, changed at random.
struct Source<'k> {
    kind: &'k Kind,
    random: Random,
    lsn: u64,
    there: Vec<(u64, u64)>,
}

impl Source<'_> {
    fn record(&self, (n, id): (u64, u64), name: &str) -> String {
        let column = self.kind.columns.split_once(' ').expect("a name").0;
        let value = (self.kind.value)(n);
        format!(r#"{{"id":{id},"{column}":{value},"name":"{name}"}}"#)
    }

    fn next(&mut self) -> Message {
        self.lsn += 1;
        let value = (self.kind.value)(self.random.below(20));
        // several numbers can have one value
        let number = (0..20).position(|n| (self.kind.value)(n) == value);
        let new = (
            number.expect("it is one of them") as u64,
            self.random.below(12),
        );
        let name = format!("n{}", self.lsn);
        let is_new = !self.there.contains(&new);
        let with_body = |record: String, body: &str| {
            record.replace('}', &format!(r#","body":"{body}","gone":null}}"#))
        };
        let kind = self.random.below(10);
        if self.there.is_empty() || is_new && kind < 4 {
            self.there.push(new);
            let record = with_body(self.record(new, &name), &name);
            return Message::new("insert", "item", self.lsn, record);
        }
        let at = self.random.below(self.there.len() as u64) as usize;
        let old = self.there[at];
        if kind < 6 && is_new {
            self.there[at] = new;
            let record = with_body(self.record(new, &name), "unchanged_toast");
            // the values of the key that differ
            let changes = self.record(old, "before");
            return Message::new("update", "item", self.lsn, record).changes(changes);
        }
        if kind < 8 {
            let record = with_body(self.record(old, &name), "unchanged_toast");
            return Message::new("update", "item", self.lsn, record);
        }
        self.there.swap_remove(at);
        let record = with_body(self.record(old, &name), "gone");
        Message::new("delete", "item", self.lsn, record)
    }
}

#[test]
fn partitioned_tables_end_as_plain_ones() {
    let seed = number("PARTITIONS_SEED", 1);
    let count = number("PARTITIONS_MESSAGES", 90);
    for (number, kind) in KINDS.iter().enumerate() {
        for guard in GUARDS {
            for options in ["", "on_delete => 'soft', soft_delete => 'gone',"] {
                let (_database, mut client) = mapped(kind, guard, options);
                let mut source = Source {
                    kind,
                    random: Random::new(seed + number as u64),
                    lsn: 0,
                    there: Vec::new(),
                };
                let mut left = count;
                while left > 0 || source.there.is_empty() {
                    let size = [1, 3, 40][source.random.below(3) as usize];
                    left = left.saturating_sub(size);
                    let mut messages: Vec<Message> = (0..size).map(|_| source.next()).collect();
                    if guard != "off" {
                        source.random.shuffle(&mut messages);
                    }
                    apply(&mut client, &batch(&messages));
                    let differ = "select * from
                        ((select 'flat', to_jsonb(f) from flat f except select 'flat', to_jsonb(p) from part p)
                         union all (select 'part', to_jsonb(p) from part p except select 'part', to_jsonb(f) from flat f)) d";
                    let differ = rows(&mut client, differ);
                    assert!(
                        differ.is_empty(),
                        "{}, {guard}, {options} after {:?}: {differ:#?}",
                        kind.name,
                        messages.iter().map(Message::to_string).collect::<Vec<_>>()
                    );
                }
                let row = source.there[0];
                let delete = Message::new("delete", "item", 100_000, source.record(row, "gone"));
                let leaves = |name: &&String| !name.ends_with("_pkey") && **name != "part";
                let locked = locked(&mut client, &[delete]);
                let count = locked.iter().filter(leaves).count();
                let most = match kind.name {
                    // the first column alone narrows
                    "two_columns" => 4,
                    // the rest has no condition of its own
                    "ranges_with_the_rest" | "lists" | "levels" => 18,
                    "few_above_many" => 2,
                    _ => 1,
                };
                assert!(count <= most, "{}, {guard}: {locked:?}", kind.name);
                if options.is_empty() {
                    let there = (source.there.len() - 1).to_string();
                    assert_eq!(
                        value(&mut client, "select count(*) from part"),
                        there,
                        "{}, {guard}",
                        kind.name
                    );
                }
            }
        }
    }
}

/// The relations that a call has locked which are the table, a partition of it, or an index of them.
fn locked(client: &mut Client, messages: &[Message]) -> Vec<String> {
    run(client, "begin");
    apply(client, &batch(messages));
    let locked = rows(
        client,
        "with recursive part(oid) as (
             select inhrelid from pg_inherits where inhparent = 'part'::regclass
             union all select h.inhrelid from part join pg_inherits h on h.inhparent = part.oid)
         select distinct l.relation::regclass::text from pg_locks l
         left join pg_index i on i.indexrelid = l.relation
         join pg_class c on c.oid = coalesce(i.indrelid, l.relation) and c.relkind = 'r'
         where l.pid = pg_backend_pid() and c.oid in (select oid from part)
         order by 1",
    );
    run(client, "commit");
    locked
}

fn with_partitions(name: &str, guard: &str, count: usize) -> (Database, Client) {
    let database = Database::new(&format!("partitions_locked_{name}"));
    let mut client = database.connect();
    let parts = each(count, |n| {
        format!("create table p{n} partition of part for values from ({n}) to ({n} + 1)")
    });
    run(
        &mut client,
        &format!(
            "set client_min_messages = error;
             create table part (id integer primary key, name text, body text) partition by range (id);
             {parts};
             select sequin.map('public.item', 'part', guard => '{guard}', name => 'part')"
        ),
    );
    (database, client)
}

#[test]
fn a_call_locks_the_partitions_of_its_rows() {
    // what the session knows of the table is out of date after an ANALYZE
    for (guard, analyzed) in [("off", false), ("table", false), ("table", true)] {
        let name = if analyzed { "analyzed" } else { guard };
        let (_database, mut client) = with_partitions(name, guard, 120);
        let record = |id: u64, body: &str| format!(r#"{{"id":{id},"name":"n","body":"{body}"}}"#);
        let all: Vec<Message> = (0..120)
            .map(|id| Message::new("insert", "item", 1 + id, record(id, "b")))
            .collect();
        send(&mut client, &all);
        // plans and what else a session reads once
        let toast = |id, lsn| Message::new("update", "item", lsn, record(id, "unchanged_toast"));
        send(&mut client, &[toast(1, 1_000)]);
        let cases = [
            ("update", vec![toast(50, 1_001)], vec![50]),
            ("late update", vec![toast(50, 1_000)], vec![50]),
            (
                "delete",
                vec![Message::new("delete", "item", 1_002, record(60, "b"))],
                vec![60],
            ),
            (
                "delete of a row that is not there",
                vec![Message::new("delete", "item", 1_003, record(60, "b"))],
                vec![60],
            ),
            (
                "key change",
                vec![
                    Message::new("update", "item", 1_004, record(60, "b")).changes(r#"{"id":70}"#),
                ],
                vec![60, 70],
            ),
            (
                "key change with a value that is not repeated",
                vec![
                    Message::new("update", "item", 1_005, record(70, "unchanged_toast"))
                        .changes(r#"{"id":60}"#),
                ],
                vec![60, 70],
            ),
            (
                "deletes",
                (80..90)
                    .map(|id| Message::new("delete", "item", 1_100 + id, record(id, "b")))
                    .collect(),
                (80..90).collect(),
            ),
        ];
        for (case, messages, touched) in cases {
            if analyzed {
                run(&mut client, "analyze part");
            }
            let locked = locked(&mut client, &messages);
            let extra: Vec<&String> = locked
                .iter()
                .filter(|name| {
                    let number = name.trim_start_matches('p').trim_end_matches("_pkey");
                    number
                        .parse::<u64>()
                        .is_ok_and(|number| !touched.contains(&number))
                })
                .collect();
            assert!(extra.is_empty(), "{name}, {case}: {extra:?}");
        }
    }
}
