//! Every type that Postgres has and Sequin sends: random values in a source table, spelled as Sequin spells them,
//! applied, equal the source's in every bit, or what Sequin left of them.
//!
//! `TYPES_SEED=7` makes other values, `TYPES_VALUES=500` more of them.

#![forbid(unsafe_code)]

mod arriving;
mod casts;
mod spelling;
mod unchanged;
mod values;

use postgres::Client;
use spelling::Of;
use support::{Database, apply, apply_jsonb, batch, has_extensions, has_xml, rows, run};
use values::{EXTENSIONS, TYPES, Type, types};

/// As the walsender of Sequin's slot has them.
const SENDER: &str = "set datestyle = 'ISO'; set timezone = 'UTC'; set extra_float_digits = 1;
    set bytea_output = 'hex'; set intervalstyle = 'postgres'";

/// Inserts the texts that the type's input function takes into the table.
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
    let xml = has_xml(client);
    let known = types(extensions)
        .into_iter()
        .filter(move |of| xml || !of.sql.starts_with("xml"));
    known.enumerate().map(|(number, of)| Column { number, of })
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
