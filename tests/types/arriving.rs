//! Values arrive as they were, as far as Sequin can send them.

use super::spelling;
use support::{Random, has_xml, message, number, rows, run};

use super::spelling::{Form, Kept, Of, decoded, spell};
use super::values::{EXTENSIONS, types};
use super::{Column, SENDER, all_types, apply_all, database, texts};

/// Sequin gave this spelling for each value of the matrix. The property below rests on it.
#[test]
fn values_are_spelled_as_sequin_spells_them() {
    let (database, extensions) = database("spelling");
    if !extensions.starts_with(&EXTENSIONS[..4]) {
        return;
    }
    let mut client = database.connect();
    if !has_xml(&mut client) {
        return;
    }
    run(&mut client, SENDER);
    run(
        &mut client,
        "create domain email as citext; create domain fakevec as text; drop type moodd, mood cascade;
         create type mood as enum ('sad', 'happy')",
    );
    let known = types(&extensions);
    let mut wrong = Vec::new();
    let (mut checked, mut unsent) = (0, 0);
    for line in include_str!("type_matrix.tsv")
        .lines()
        .filter(|line| line.contains("\tLIVE "))
    {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, sql, _, _, sent @ ..] = &columns[..] else {
            panic!("{line}")
        };
        let of = match *name {
            "email" | "fakevec" => Of::Text,
            "bit(8)" => Of::Unreadable,
            "bit(4)[]" => Of::UnreadableArray(Of::Unreadable.into()),
            "varchar(5)[]" => Of::Array(Of::Text.into()),
            name => match known.iter().find(|t| t.sql == name) {
                Some(known) => known.of.clone(),
                None => panic!("{name} has no values"),
            },
        };
        run(
            &mut client,
            &format!("create temp table probe as select 1 as id, ({sql})::{name} as c"),
        );
        let (_, text) = texts(&mut client, "probe").remove(0);
        run(&mut client, "drop table probe");
        let text = text.expect("not null");
        for (sent, form) in sent.iter().zip([Form::Live, Form::Read]) {
            let (_, wanted) = sent.split_once(' ').expect("LIVE or READ");
            let found = spell(&of, &text, form).map(|sent| decoded(&sent.json));
            let wanted = match wanted {
                _ if wanted.starts_with("RAISE") || wanted.starts_with("CAST-ERROR") => None,
                _ if wanted.starts_with("null   (") => Some("null".to_owned()),
                json => Some(decoded(json)),
            };
            match wanted {
                None => unsent += 1,
                Some(_) => checked += 1,
            }
            if found != wanted {
                wrong.push(format!(
                    "{name} {sql} {form:?}: {found:?} is not {wanted:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((checked, unsent), (377, 15));
}

/// The messages for the values of every type, and the rows that must be there then.
#[derive(Default)]
struct Sent {
    live: Vec<String>,
    /// The messages of `live` that jsonb can carry.
    binary: Vec<String>,
    /// Changes that come before reads without a value.
    before: Vec<String>,
    reads: Vec<String>,
    /// SQL that fills the tables `wanted_live` and `wanted_read`.
    wanted: String,
    count: usize,
    lossy: usize,
    unsent: usize,
}

impl Sent {
    fn add_live(&mut self, column: &Column, id: i32, text: Option<&str>) {
        let Some(value) = sent(column, text, Form::Live) else {
            self.unsent += 1;
            return;
        };
        self.want(column, "wanted_live", id, &value.kept);
        let insert = |kind| message("insert", &column.table(kind), 1, &record(id, &value));
        if fits_jsonb(&value.json) {
            self.binary.push(insert("binary"));
        }
        self.live.push(insert("live"));
    }

    fn add_read(&mut self, column: &Column, id: i32, text: Option<&str>) {
        let Some(value) = sent(column, text, Form::Read) else {
            self.unsent += 1;
            return;
        };
        let table = column.table("read");
        let is_unknown = text.is_some() && value.json == "null" && value.kept == Kept::All;
        if !is_unknown {
            self.want(column, "wanted_read", id, &value.kept);
        } else if let Some(known) = sent(column, text, Form::Live) {
            // such a read comes after a change that had the value
            self.want(column, "wanted_read", id, &known.kept);
            self.before
                .push(message("insert", &table, 1, &record(id, &known)));
        } else {
            self.want(column, "wanted_read", id, &Kept::Null);
        }
        self.reads
            .push(message("read", &table, 1000, &record(id, &value)));
    }

    fn want(&mut self, column: &Column, table: &str, id: i32, kept: &Kept) {
        let (table, source, of) = (column.table(table), column.table("source"), &column.of.sql);
        self.count += 1;
        self.lossy += usize::from(*kept != Kept::All);
        self.wanted += &match kept {
            Kept::All => format!("insert into {table} select * from {source} where id = {id};"),
            Kept::As(text) => {
                format!(
                    "insert into {table} values ({id}, {}::{of});",
                    literal(text)
                )
            }
            Kept::Null => format!("insert into {table} values ({id}, null);"),
        };
    }
}

/// How a message spells the value with this text.
fn sent(column: &Column, text: Option<&str>, form: Form) -> Option<spelling::Sent> {
    match text {
        Some(text) => spell(&column.of.of, text, form),
        None => Some(spelling::Sent {
            json: "null".to_owned(),
            kept: Kept::All,
        }),
    }
}

fn record(id: i32, value: &spelling::Sent) -> String {
    format!(r#"{{"id":{id},"c":{}}}"#, value.json)
}

#[test]
fn values_arrive_as_they_were() {
    let seed = number("TYPES_SEED", 1);
    let count = number("TYPES_VALUES", 20);
    println!("TYPES_SEED={seed} TYPES_VALUES={count}");
    let (database, extensions) = database("types");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let mut random = Random::new(seed);
    let columns: Vec<_> = all_types(&mut client, &extensions).collect();
    let mut sent = Sent::default();
    for column in &columns {
        column.make(&mut client, "source");
        for kind in ["live", "binary", "read"] {
            column.map(&mut client, kind);
        }
        for kind in ["live", "read"] {
            column.make(&mut client, &format!("wanted_{kind}"));
        }
        let values: Vec<_> = (0..count).map(|_| column.of.value(&mut random)).collect();
        let taken: i64 = client
            .query_one(
                "select fill($1, $2, $3)",
                &[&column.table("source"), &column.of.sql, &values],
            )
            .unwrap_or_else(|error| panic!("{}: {error}", column.of.sql))
            .get(0);
        assert!(
            taken as u64 * 10 >= count * 2,
            "{}: {taken} of {count}",
            column.of.sql
        );
        let table = column.table("source");
        run(
            &mut client,
            &format!("insert into {table} values (0, null)"),
        );
        for (id, text) in texts(&mut client, &table) {
            sent.add_live(column, id, text.as_deref());
            sent.add_read(column, id, text.as_deref());
        }
        run(&mut client, &std::mem::take(&mut sent.wanted));
    }
    apply_all(&mut client, &sent.live, false);
    apply_all(&mut client, &sent.binary, true);
    apply_all(&mut client, &sent.before, false);
    apply_all(&mut client, &sent.reads, false);
    let mut wrong = Vec::new();
    let mut unfit = sent.live.len() - sent.binary.len();
    for column in &columns {
        let tables = [
            ("wanted_live", "live"),
            ("wanted_read", "read"),
            ("live", "binary"),
        ];
        for (wanted, found) in tables {
            let mut differences = column.differences(&mut client, wanted, found);
            if found == "binary" {
                let all = differences.len();
                differences.retain(|row| !row.ends_with("|missing"));
                unfit -= all - differences.len();
            }
            wrong.extend(
                differences
                    .iter()
                    .take(3)
                    .map(|row| format!("{found}: {row}")),
            );
        }
    }
    assert_eq!(unfit, 0);
    let Sent {
        count,
        lossy,
        unsent,
        ..
    } = sent;
    println!(
        "{} types, {count} values sent, {lossy} of them changed at Sequin, {unsent} that Sequin cannot send",
        columns.len()
    );
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(lossy > 0 && lossy * 3 < count, "{lossy} of {count}");
}

/// A composite value may be an object, as `to_json` makes it, in lists and in others too.
#[test]
fn composites_arrive_from_objects() {
    let (database, extensions) = database("objects");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let mut random = Random::new(number("TYPES_SEED", 1));
    let of_rows = ["addr", "addrd", "\"Odd Schema\".\"Addr\"", "deep"];
    let mut sent = 0;
    for column in all_types(&mut client, &extensions) {
        if !of_rows.contains(&column.of.sql.trim_end_matches("[]")) {
            continue;
        }
        column.make(&mut client, "source");
        column.map(&mut client, "object");
        let values: Vec<_> = (0..100).map(|_| column.of.value(&mut random)).collect();
        let (table, of) = (column.table("source"), &column.of.sql);
        client
            .query_one("select fill($1, $2, $3)", &[&table, of, &values])
            .expect(of);
        // JSON has no lower bounds, and only one null
        run(
            &mut client,
            &format!(r"delete from {table} where format('%s', c) ~ '\[-?\d+:-?\d+\]|,null,'"),
        );
        let records = rows(
            &mut client,
            &format!("select to_json(s)::text from {table} s"),
        );
        let messages: Vec<_> = records
            .iter()
            .map(|record| message("insert", &column.table("object"), 1, record))
            .collect();
        apply_all(&mut client, &messages, false);
        assert_eq!(column.differences(&mut client, "source", "object"), [""; 0]);
        sent += messages.len();
    }
    assert!(sent > 400, "{sent}");
}

/// Whether jsonb can carry the document: it has neither `\u0000` nor negative zero.
fn fits_jsonb(json: &str) -> bool {
    let mut bare = json.to_owned();
    while let Some(start) = bare.find('"') {
        let mut strings = serde_json::Deserializer::from_str(&bare[start..]).into_iter::<String>();
        let text = strings.next().expect("a string").expect("a string");
        if text.contains('\0') {
            return false;
        }
        let end = start + strings.byte_offset();
        bare.replace_range(start..end, "");
    }
    !bare.contains("-0.0")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
