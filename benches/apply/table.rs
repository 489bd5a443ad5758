//! A destination table as a client of the ways without the extension knows it, and the statements that it sends.

use postgres::Client;

use super::Result;

/// A table, as the catalog describes it.
#[derive(Debug)]
pub struct Table {
    /// The name of the source's table.
    pub source: String,
    /// Its own, qualified.
    name: String,
    /// The columns that can be written.
    pub columns: Vec<Column>,
    /// The places of the primary key's columns among them.
    pub key: Vec<usize>,
}

/// A column that can be written.
#[derive(Debug)]
pub struct Column {
    /// Its name, and the key of its value in a record.
    pub name: String,
    kind: String,
    /// Whether its type is an array.
    pub is_array: bool,
    /// Whether its type is JSON, so that strings keep their quotes.
    pub is_json: bool,
}

const CATALOG: &str = "
    select a.attname::text, format_type(a.atttypid, a.atttypmod), t.typcategory = 'A', t.typname in ('json', 'jsonb'),
           a.attnum = any(i.indkey)
    from pg_attribute a join pg_type t on t.oid = a.atttypid
         join pg_index i on i.indrelid = a.attrelid and i.indisprimary
    where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    order by a.attnum";

impl Table {
    /// Reads the table from the catalog.
    pub fn read(client: &mut Client, source: &str, name: &str) -> Result<Table> {
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for row in client.query(CATALOG, &[&name])? {
            if row.try_get(4)? {
                key.push(columns.len());
            }
            columns.push(Column {
                name: row.try_get(0)?,
                kind: row.try_get(1)?,
                is_array: row.try_get(2)?,
                is_json: row.try_get(3)?,
            });
        }
        Ok(Table {
            source: source.to_owned(),
            name: name.to_owned(),
            columns,
            key,
        })
    }

    fn list(&self, write: impl Fn(usize, &Column) -> String) -> String {
        let columns = self.columns.iter().enumerate();
        let parts: Vec<String> = columns
            .map(|(place, column)| write(place, column))
            .collect();
        parts.join(", ")
    }

    fn keys(&self, between: &str, write: impl Fn(usize, &Column) -> String) -> String {
        let parts = self.key.iter().enumerate();
        let parts: Vec<String> = parts
            .map(|(n, &place)| write(n, &self.columns[place]))
            .collect();
        parts.join(between)
    }

    /// `insert into …` with its columns.
    fn insert(&self) -> String {
        let columns = self.list(|_, column| column.name.clone());
        // the source's value, also where the destination would make one
        format!(
            "insert into {} ({columns}) overriding system value",
            self.name
        )
    }

    /// `on conflict …` of its key.
    fn or_update(&self) -> String {
        let key = self.keys(", ", |_, column| column.name.clone());
        let sets: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(place, _)| !self.key.contains(place))
            .map(|(_, column)| format!("{0} = excluded.{0}", column.name))
            .collect();
        format!("on conflict ({key}) do update set {}", sets.join(", "))
    }

    /// Upserts a row; a parameter for each column.
    pub fn upsert_row(&self) -> String {
        let values = self.list(|place, _| format!("${}", place + 1));
        format!("{} values ({values}) {}", self.insert(), self.or_update())
    }

    /// Deletes a row; a parameter for each column of the key.
    pub fn delete_row(&self) -> String {
        let key = self.keys(" and ", |n, column| format!("{} = ${}", column.name, n + 1));
        format!("delete from {} where {key}", self.name)
    }

    /// Upserts rows; an array for each column. `unnest` would flatten arrays of arrays, so those go as text.
    pub fn upsert_arrays(&self) -> String {
        let arrays = self.list(|place, column| match column.is_array {
            true => format!("${}::text[]", place + 1),
            false => format!("${}::{}[]", place + 1, column.kind),
        });
        let names = self.list(|_, column| column.name.clone());
        let values = self.list(|_, column| match column.is_array {
            true => format!("u.{}::{}", column.name, column.kind),
            false => format!("u.{}", column.name),
        });
        format!(
            "{} select {values} from unnest({arrays}) u ({names}) {}",
            self.insert(),
            self.or_update()
        )
    }

    /// Deletes rows; an array for each column of the key.
    pub fn delete_arrays(&self) -> String {
        let arrays = self.keys(", ", |n, column| format!("${}::{}[]", n + 1, column.kind));
        let names = self.keys(", ", |_, column| column.name.clone());
        let same = self.keys(" and ", |_, column| format!("t.{0} = u.{0}", column.name));
        format!(
            "delete from {} t using unnest({arrays}) u ({names}) where {same}",
            self.name
        )
    }

    fn staging(&self) -> String {
        format!("staging_{}", self.source)
    }

    /// Makes the session's table to copy into.
    pub fn create_staging(&self) -> String {
        let columns = self.list(|_, column| format!("{} {}", column.name, column.kind));
        format!(
            "create temp table {} ({columns}) on commit delete rows",
            self.staging()
        )
    }

    /// Copies rows into it.
    pub fn copy(&self) -> String {
        format!("copy {} from stdin (format csv)", self.staging())
    }

    /// Upserts what was copied.
    pub fn upsert_staged(&self) -> String {
        let columns = self.list(|_, column| column.name.clone());
        format!(
            "{} select {columns} from {} {}",
            self.insert(),
            self.staging(),
            self.or_update()
        )
    }

    /// Does all in the server; the parameter is the body. The last message of a row decides: a statement may not write
    /// a row twice.
    pub fn plain_sql(&self) -> String {
        let path = self.keys(", ", |_, column| {
            format!("m -> 'record' ->> '{}'", column.name)
        });
        let same = self.keys(" and ", |_, column| {
            format!(
                "t.{0} = (m -> 'record' ->> '{0}')::{1}",
                column.name, column.kind
            )
        });
        let values = self.list(|_, column| format!("r.{}", column.name));
        format!(
            "with messages as materialized (
                 select distinct on ({path}) m
                 from jsonb_array_elements($1::text::jsonb -> 'data') with ordinality e (m, n)
                 where m -> 'metadata' ->> 'table_name' = '{source}'
                 order by {path}, n desc),
             deleted as (delete from {name} t using messages where m ->> 'action' = 'delete' and {same})
             {insert} select {values} from messages, jsonb_populate_record(null::{name}, m -> 'record') r
             where m ->> 'action' <> 'delete' {upsert}",
            source = self.source,
            name = self.name,
            insert = self.insert(),
            upsert = self.or_update(),
        )
    }
}
