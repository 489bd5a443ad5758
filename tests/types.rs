//! Every type that Postgres has and Sequin sends: random values in a source table, spelled as Sequin spells them, applied,
//! are the source's in every bit, or what Sequin left of them.
//!
//! `TYPES_SEED=7` makes other values, `TYPES_VALUES=500` more of them.

#[path = "types/spelling.rs"]
mod spelling;
mod support;
#[path = "types/values.rs"]
mod values;

use std::env;

use postgres::Client;
use spelling::{Form, Kept, Of, decoded, spell};
use support::{Database, Random, apply, apply_jsonb, batch, has_extensions, message, rows, run};
use values::{EXTENSIONS, TYPES, Type, types};

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |n| n.parse().expect(variable))
}

/// As the walsender of Sequin's slot has them.
const SENDER: &str = "set datestyle = 'ISO'; set timezone = 'UTC'; set extra_float_digits = 1;
    set bytea_output = 'hex'; set intervalstyle = 'postgres'";

/// Puts those of the texts into the table that the type's input function takes.
const FILL: &str = "
    create function fill(target text, type text, texts text[]) returns bigint language plpgsql as $$
    declare taken bigint := 0;
    begin
        for i in 1 .. cardinality(texts) loop
            begin
                execute format('insert into %s values (%s, %L::%s)', target, i, texts[i], type);
                taken := taken + 1;
            exception when others then
            end;
        end loop;
        return taken;
    end $$";

/// A database with the types, and those extensions that the server has.
fn database(test: &str) -> (Database, Vec<&'static str>) {
    let database = Database::new(test);
    let mut client = database.connect();
    let mut extensions = EXTENSIONS.to_vec();
    extensions.retain(|name| has_extensions(&mut client, &[name]));
    for name in &extensions {
        run(&mut client, &format!("create extension {name}"));
    }
    run(&mut client, TYPES);
    run(&mut client, "create table \"Odd Schema\".\"Table X\" ()");
    run(&mut client, FILL);
    (database, extensions)
}

/// Ids and texts of a table's column `c`, as the server's output function gives them. `None` is null.
fn texts(client: &mut Client, table: &str) -> Vec<(i32, Option<String>)> {
    let sql = format!(
        "select id, case when num_nulls(c) = 0 then format('%s', c) end from {table} order by id"
    );
    let rows = client
        .query(&sql, &[])
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Every type that this server has.
fn all_types(client: &mut Client, extensions: &[&str]) -> impl Iterator<Item = Column> + use<> {
    let multiranges = support::has_multiranges(client);
    let xml = support::has_xml(client);
    let known = types(extensions).into_iter().filter(move |of| {
        (multiranges || !of.sql.contains("multirange")) && (xml || !of.sql.starts_with("xml"))
    });
    known.enumerate().map(|(number, of)| Column { number, of })
}

/// The spelling that the property below rests on is what Sequin gave for each value of the matrix.
#[test]
fn values_are_spelled_as_sequin_spells_them() {
    let (database, extensions) = database("spelling");
    if !extensions.starts_with(&EXTENSIONS[..4]) {
        return;
    }
    let mut client = database.connect();
    if !support::has_xml(&mut client) || !support::has_multiranges(&mut client) {
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
    for line in include_str!("types/type_matrix.tsv")
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

/// A type under test: its tables are `source_N` and so on.
struct Column {
    number: usize,
    of: Type,
}

impl Column {
    fn table(&self, kind: &str) -> String {
        format!("{kind}_{}", self.number)
    }

    fn make(&self, client: &mut Client, kind: &str) {
        let (table, of) = (self.table(kind), &self.of.sql);
        run(
            client,
            &format!("create table {table} (id int primary key, c {of})"),
        );
    }

    /// A destination, mapped.
    fn map(&self, client: &mut Client, kind: &str) {
        self.make(client, kind);
        let table = self.table(kind);
        run(
            client,
            &format!("select sequin.map('public.{table}', '{table}')"),
        );
    }

    /// The rows of two tables that differ, in any bit.
    fn differences(&self, client: &mut Client, wanted: &str, found: &str) -> Vec<String> {
        let (wanted, found) = (self.table(wanted), self.table(found));
        let text = |table: &str| {
            format!(
                "case when {table}.id is null then 'missing' else left(format('%s', {table}.c), 300) end"
            )
        };
        // json that went through jsonb has its spaces
        let documents = match (found.starts_with("binary"), &self.of.of) {
            (true, Of::Json) => "::jsonb",
            (true, Of::Array(of)) if **of == Of::Json => "::jsonb[]",
            _ => "",
        };
        rows(
            client,
            &format!(
                "select id, '{}', {}, {} from {wanted} w full join {found} f using (id)
                 where num_nulls(w.id, f.id) > 0 or not record_image_eq(row(w.c{documents}), row(f.c{documents}))",
                self.of.sql.replace('\'', "''"),
                text("w"),
                text("f")
            ),
        )
    }
}

/// Messages, applied in batches.
fn apply_all(client: &mut Client, messages: &[String], jsonb: bool) {
    for messages in messages.chunks(1000) {
        let batch = batch(messages);
        let counts = if jsonb {
            apply_jsonb(client, &batch)
        } else {
            apply(client, &batch)
        };
        if counts.dead > 0 {
            let dead = "select mapping, sqlstate, error, detail, left((message::json->'record')::text, 300)
                        from sequin.dead_letter limit 20";
            panic!("{counts:?}\n{}", rows(client, dead).join("\n"));
        }
        assert_eq!(
            counts.upserted + counts.stale,
            counts.received,
            "{counts:?}"
        );
    }
}

/// What is sent of the values of every type, and what is to be there then.
#[derive(Default)]
struct Sent {
    live: Vec<String>,
    /// Those of `live` that jsonb can carry.
    binary: Vec<String>,
    /// What goes before reads that say nothing.
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

/// What a message has for the value with this text.
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
        // JSON knows no lower bounds, and but one null
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

/// A row with a column of every type.
struct Wide {
    columns: Vec<Column>,
    /// Of each column a value that Sequin sends whole, as it does.
    live: Vec<String>,
    /// The same in a read.
    read: Vec<String>,
}

impl Wide {
    /// The table `source` with one row.
    fn make(client: &mut Client, extensions: &[&str]) -> Wide {
        let mut random = Random::new(number("TYPES_SEED", 1));
        let mut wide = Wide {
            columns: Vec::new(),
            live: Vec::new(),
            read: Vec::new(),
        };
        run(
            client,
            "create table source (id int primary key); insert into source values (1)",
        );
        for column in all_types(client, extensions) {
            let number = column.number;
            column.make(client, "one");
            let values: Vec<_> = (0..40).map(|_| column.of.value(&mut random)).collect();
            let table = column.table("one");
            client
                .query_one(
                    "select fill($1, $2, $3)",
                    &[&table, &column.of.sql, &values],
                )
                .expect("filled");
            let whole = |text: &str, form| {
                spell(&column.of.of, text, form)
                    .filter(|sent| sent.kept == Kept::All)
                    .map(|sent| sent.json)
            };
            let found = texts(client, &table).into_iter().find_map(|(id, text)| {
                let text = text.expect("not null");
                let read = whole(&text, Form::Read);
                let as_read = match column.of.of {
                    Of::Unread | Of::FailingArray(_) | Of::TimeTz | Of::Time => {
                        Some("null".to_owned())
                    }
                    Of::Array(ref of) if matches!(**of, Of::Time | Of::TimeTz) => {
                        Some("null".to_owned())
                    }
                    _ => read,
                };
                Some((id, whole(&text, Form::Live)?, as_read?))
            });
            let Some((id, live, read)) = found else {
                assert!(
                    column.of.sql.contains("json"),
                    "no value of {} comes whole",
                    column.of.sql
                );
                continue;
            };
            run(
                client,
                &format!(
                    "alter table source add c_{number} {}; update source set c_{number} = c from {table} where {table}.id = {id}",
                    column.of.sql
                ),
            );
            wide.columns.push(column);
            wide.live.push(live);
            wide.read.push(read);
        }
        assert!(wide.columns.len() > 150, "{}", wide.columns.len());
        wide
    }

    /// A record with these values.
    fn record(&self, value: impl Fn(usize) -> String) -> String {
        let columns = self.columns.iter().enumerate();
        let members: Vec<_> = columns
            .map(|(i, column)| format!(r#","c_{}":{}"#, column.number, value(i)))
            .collect();
        format!(r#"{{"id":1{}}}"#, members.concat())
    }

    /// Types of the columns in which the tables differ: in any bit, or by whether they are null.
    fn differ(&self, client: &mut Client, wanted: &str, found: &str) -> Vec<String> {
        let of = |column: &&Column| {
            let c = format!("c_{}", column.number);
            let sql = format!(
                "select record_image_eq(row(w.{c}), row(f.{c})) from {wanted} w, {found} f"
            );
            rows(client, &sql) != ["t"]
        };
        self.columns
            .iter()
            .filter(of)
            .map(|column| column.of.sql.clone())
            .collect()
    }
}

/// Whatever the type is, a value that an update left alone stays, and comes late if the update came first.
#[test]
fn unchanged_values_of_every_type() {
    let (database, extensions) = database("unchanged");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let wide = Wide::make(&mut client, &extensions);
    run(
        &mut client,
        "create table nothing as select * from source where false; insert into nothing values (1)",
    );
    let insert = wide.record(|i| wide.live[i].clone());
    let unchanged = wide.record(|_| "\"unchanged_toast\"".to_owned());
    let read = wide.record(|i| wide.read[i].clone());
    for guard in ["table", "columns"] {
        let make = |client: &mut Client, table: &str| {
            run(
                client,
                &format!(
                    "drop table if exists {table}; create table {table} (like source including all);
                     select sequin.map('public.{table}', '{table}', guard => '{guard}')"
                ),
            );
        };
        make(&mut client, "kept");
        let sent = [
            message("insert", "kept", 100, &insert),
            message("update", "kept", 200, &unchanged),
        ];
        apply_all(&mut client, &sent[..1], false);
        apply_all(&mut client, &sent[1..], false);
        assert_eq!(
            wide.differ(&mut client, "source", "kept"),
            [""; 0],
            "{guard}"
        );

        make(&mut client, "late");
        let sent = ["late"].map(|table| message("update", table, 200, &unchanged));
        apply_all(&mut client, &sent, false);
        assert_eq!(
            wide.differ(&mut client, "nothing", "late"),
            [""; 0],
            "{guard}"
        );
        apply(&mut client, &message("insert", "late", 100, &insert));
        assert_eq!(
            wide.differ(&mut client, "source", "late"),
            [""; 0],
            "{guard}"
        );

        // a read fills what it knows
        make(&mut client, "filled");
        let sent = [
            message("update", "filled", 200, &unchanged),
            message("read", "filled", 300, &read),
        ];
        apply_all(&mut client, &sent[..1], false);
        apply_all(&mut client, &sent[1..], false);
        let unknown: Vec<_> = (0..wide.columns.len())
            .filter(|i| wide.read[*i] == "null")
            .map(|i| wide.columns[i].of.sql.clone())
            .collect();
        assert_eq!(
            wide.differ(&mut client, "source", "filled"),
            unknown,
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, "select count(*) from sequin.dead_letter"),
            ["0"]
        );
    }
}

/// Null in a read is NULL, but for types that Sequin cannot read: there it is not said.
#[test]
fn nulls_of_reads() {
    let (database, extensions) = database("nulls");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let wide = Wide::make(&mut client, &extensions);
    run(
        &mut client,
        "create table wide (like source including all); select sequin.map('public.wide', 'wide')",
    );
    let insert = wide.record(|i| wide.live[i].clone());
    let nulls = wide.record(|_| "null".to_owned());
    apply_all(
        &mut client,
        &[message("insert", "wide", 100, &insert)],
        false,
    );
    apply_all(&mut client, &[message("read", "wide", 200, &nulls)], false);
    let mut readable: Vec<_> = Vec::new();
    for column in &wide.columns {
        match &column.of.of {
            Of::Unreadable | Of::Box | Of::UnreadableArray(_) => {}
            // a read of these fails, or nobody has seen one
            Of::FailingArray(_) | Of::Unread => {}
            _ => readable.push(column.of.sql.clone()),
        }
    }
    let mut taken = wide.differ(&mut client, "source", "wide");
    // what is unknown of these either way
    let open: Vec<String> = wide
        .columns
        .iter()
        .filter(|column| matches!(column.of.of, Of::FailingArray(_) | Of::Unread))
        .map(|column| column.of.sql.clone())
        .collect();
    taken.retain(|of| !open.contains(of));
    assert_eq!(taken, readable);
    assert!(
        readable.len() > 50 && readable.len() < wide.columns.len() - 80,
        "{}",
        readable.len()
    );
    // a change means it
    apply_all(
        &mut client,
        &[message("update", "wide", 300, &nulls)],
        false,
    );
    run(
        &mut client,
        "create table nothing as select * from source where false; insert into nothing values (1)",
    );
    assert_eq!(wide.differ(&mut client, "nothing", "wide"), [""; 0]);
}

/// In an insert or a read, and in an update that lists it, it is a text; for a type that has no such text it is refused.
#[test]
fn a_text_that_reads_unchanged_toast() {
    let (database, extensions) = database("marker");
    let mut client = database.connect();
    run(&mut client, SENDER);
    let mut id = 0;
    let (mut taken, mut refused) = (0, 0);
    for column in all_types(&mut client, &extensions) {
        column.map(&mut client, "marked");
        let table = column.table("marked");
        // what the type's input function says of it
        let of = column.of.sql.clone();
        column.make(&mut client, "wanted");
        let wanted = client.query_one(
            "select fill($1, $2, array['unchanged_toast'])",
            &[&column.table("wanted"), &of],
        );
        let is_json = matches!(column.of.of, Of::Json | Of::Jsonb) || of == "jsondd";
        if is_json {
            let quoted = format!(
                "insert into {} values (1, '\"unchanged_toast\"')",
                column.table("wanted")
            );
            run(&mut client, &quoted);
        }
        // modifiers cut what is cast, but not what is sent
        let cut = ["varchar(5)", "char(5)", "short"].contains(&&*of);
        let fits = (wanted.expect("fill").get::<_, i64>(0) == 1 || is_json) && !cut;
        id += 10;
        let record = |id: u64| format!(r#"{{"id":{id},"c":"unchanged_toast"}}"#);
        let listed = support::message_with("update", &table, id + 2, &record(3), r#"{"c":null}"#);
        let sent = [
            message("insert", &table, id, &record(1)),
            message("read", &table, id, &record(2)),
            listed,
        ];
        let counts = apply(&mut client, &batch(&sent));
        assert_eq!(counts.dead, if fits { 0 } else { 3 }, "{of}: {counts:?}");
        if fits {
            taken += 1;
            let same = format!(
                "select bool_and(record_image_eq(row(m.c), row(w.c))), count(*) from {table} m, {} w",
                column.table("wanted")
            );
            assert_eq!(rows(&mut client, &same), ["t|3"], "{of}");
        } else {
            refused += 1;
        }
    }
    assert!(taken > 10 && refused > 100, "{taken} {refused}");
}

/// Whether jsonb can carry it: it knows no `\u0000`, and no negative zero.
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
