//! The SQL that looks rows up by the keys in the batch relation.

#![forbid(unsafe_code)]

use super::{SqlColumn, SqlRelation, batch, matches, number_name};

/// Whether a query locks the rows that it finds, until the transaction ends. The rows are those of the latest commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowLock {
    /// It does not.
    None,
    /// Nobody else changes the rows. Foreign keys to them can still be checked.
    Change,
}

impl RowLock {
    fn clause(self) -> &'static str {
        match self {
            RowLock::None => "",
            RowLock::Change => " for no key update",
        }
    }
}

/// Selects `list`, after the number `n` of a key in the batch relation, for the rows `d` of these keys. On a plain table
/// the server looks each key up in an index, whatever the statistics say. Citus has no such look-ups, but joins.
fn look_up(
    relation: &SqlRelation,
    (columns, key): (&[&SqlColumn], &[&SqlColumn]),
    (list, rows): (&[String], &str),
    lock: &str,
) -> String {
    let n = number_name(columns);
    let (batch, matches) = (batch("b", Some(&n), columns), matches(relation, key));
    let list: String = list.iter().map(|item| format!(", {item}")).collect();
    let name = &relation.name;
    match relation.shards {
        None => format!(
            "select b.{n}{list} from {batch} cross join lateral \
             (select{rows} from {name} d where {matches} offset 0{lock}) d"
        ),
        Some(_) => format!("select b.{n}{list} from {batch} join {name} d on {matches}"),
    }
}

/// Selects the rows of these keys as JSON, each with the number that its key has in the batch relation.
pub fn images(relation: &SqlRelation, key: &[&SqlColumn], lock: RowLock) -> String {
    json_rows(relation, key, "pg_catalog.to_jsonb(d.*)", lock)
}

/// A value that takes more bytes than this is not shown.
const SHOWN: usize = 65_536;

/// As many pairs as the server's functions take arguments.
const PAIRS: usize = 50;

/// As [`images`], for people: of a value that takes more than 64 kB, the size is shown. `columns`: the names, quoted as
/// identifiers and as literals.
pub fn shown(relation: &SqlRelation, key: &[&SqlColumn], columns: &[(String, String)]) -> String {
    let size = |name: &str| format!("pg_catalog.pg_column_size(d.{name})");
    let sizes: Vec<String> = columns.iter().map(|(name, _)| size(name)).collect();
    let pair = |(name, literal): &(String, String)| {
        format!(
            "{literal}, case when {size} > {SHOWN} then pg_catalog.to_jsonb(pg_catalog.format('%s bytes, not shown', {size})) \
             else pg_catalog.to_jsonb(d.{name}) end",
            size = size(name),
        )
    };
    let parts: Vec<String> = columns
        .chunks(PAIRS)
        .map(|columns| {
            let pairs: Vec<String> = columns.iter().map(pair).collect();
            format!("pg_catalog.jsonb_build_object({})", pairs.join(", "))
        })
        .collect();
    let image = format!(
        "(case when greatest({}) > {SHOWN} then {} else pg_catalog.to_jsonb(d.*) end)",
        sizes.join(", "),
        parts.join(" operator(pg_catalog.||) "),
    );
    json_rows(relation, key, &image, RowLock::None)
}

fn json_rows(relation: &SqlRelation, key: &[&SqlColumn], json: &str, lock: RowLock) -> String {
    let image = format!("{json}::pg_catalog.text");
    let listed = match relation.shards {
        None => "d.image".to_owned(),
        Some(_) => image.clone(),
    };
    let rows = format!(" {image} as image");
    look_up(relation, (key, key), (&[listed], &rows), lock.clause())
}

/// Selects columns (`d.name`, quoted) of the rows of these keys, after the number that each key has in the
/// batch relation.
pub fn rows_of_keys(
    relation: &SqlRelation,
    key: &[&SqlColumn],
    columns: &[String],
    lock: RowLock,
) -> String {
    look_up(relation, (key, key), (columns, " d.*"), lock.clause())
}

/// Locks the rows of these keys, and selects the number that each key has in the batch relation. Rows of Citus are not
/// locked.
pub fn locked_rows(relation: &SqlRelation, key: &[&SqlColumn]) -> String {
    look_up(relation, (key, key), (&[], ""), " for update")
}

/// The condition that two records differ in their bytes.
pub fn differ(relation: &SqlRelation, a: &str, b: &str) -> String {
    match relation.shards {
        None => format!("{a} operator(pg_catalog.*<>) {b}"),
        // Citus forgets the casts of the records when it spells an operator.
        Some(_) => format!("pg_catalog.record_image_ne({a}, {b})"),
    }
}

/// Selects the numbers of rows of the batch relation whose values of these columns are not those of the row of
/// their key. With each column: whether a null of the row in the table tells nothing there. None if a trigger may have
/// changed the values of the row when it was written.
pub fn different_rows(
    relation: &SqlRelation,
    oid: u32,
    key: &[&SqlColumn],
    columns: &[(&SqlColumn, bool)],
) -> String {
    let row = |of: &str| {
        let names = columns.iter().map(|(c, emptied)| {
            let value = match *emptied && of == "b" {
                true => format!("case when d.{0} is not null then b.{0} end", c.name),
                false => format!("{of}.{}", c.name),
            };
            match c.type_name.as_str() {
                // equal whatever the spacing and the order of members
                "json" => format!("({value})::pg_catalog.jsonb"),
                "json[]" => format!("({value})::pg_catalog.jsonb[]"),
                _ => value,
            }
        });
        let names: Vec<_> = names.collect();
        // The cast keeps the server from comparing column by column: not every type has an equality.
        format!("row({})::pg_catalog.record", names.join(", "))
    };
    let values = [row("d"), row("b")];
    let all: Vec<_> = key
        .iter()
        .chain(columns.iter().map(|(column, _)| column))
        .copied()
        .collect();
    let different = differ(relation, &values[0], &values[1]);
    // The bits of tgtype: 1 is FOR EACH ROW, 2 BEFORE, 4 INSERT, 16 UPDATE.
    look_up(relation, (&all, key), (&[], " d.*"), "")
        + &format!(
            " where {different} and not exists \
             (select from pg_catalog.pg_trigger t where t.tgrelid operator(pg_catalog.=) {oid}::pg_catalog.oid \
             and not t.tgisinternal and t.tgenabled operator(pg_catalog.<>) 'D' \
             and t.tgtype operator(pg_catalog.&) 3::smallint operator(pg_catalog.=) 3::smallint \
             and t.tgtype operator(pg_catalog.&) 20::smallint operator(pg_catalog.<>) 0::smallint)"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::tests::{column, relation, spread};

    #[test]
    fn columns_of_rows_are_looked_up_by_key() {
        let id = column("a", "integer");
        let columns = ["d.b".to_owned(), "d.c".to_owned()];
        let sql = |lock| rows_of_keys(&relation(false), &[&id], &columns, lock);
        let start = "select b.sequin_n, d.b, d.c from sequin_internal.batch() b(sequin_n integer, a integer) \
             cross join lateral (select d.* from public.t d where d.a operator(pg_catalog.=) b.a \
             offset 0";
        assert_eq!(sql(RowLock::None), format!("{start}) d"));
        assert_eq!(
            sql(RowLock::Change),
            format!("{start} for no key update) d")
        );
    }

    #[test]
    fn rows_are_compared_by_their_values() {
        let sql = different_rows(
            &relation(false),
            7,
            &[&column("a", "integer")],
            &[
                (&column("b", "json"), false),
                (&column("c", "text"), true),
                (&column("e", "json[]"), false),
            ],
        );
        let compared = "select b.sequin_n from sequin_internal.batch() b(sequin_n integer, a integer, b json, c text, e json[]) \
             cross join lateral (select d.* from public.t d where d.a operator(pg_catalog.=) b.a \
             offset 0) d where row((d.b)::pg_catalog.jsonb, d.c, (d.e)::pg_catalog.jsonb[])::pg_catalog.record operator(pg_catalog.*<>) \
             row((b.b)::pg_catalog.jsonb, case when d.c is not null then b.c end, (b.e)::pg_catalog.jsonb[])::pg_catalog.record and not exists ";
        assert!(sql.starts_with(compared), "{sql}");
    }

    #[test]
    fn citus_gets_joins() {
        let (id, name) = (column("id", "integer"), column("name", "text"));
        let join = "from sequin_internal.batch() b(sequin_n integer, id integer) join public.t d \
                    on d.id operator(pg_catalog.=) b.id";
        let sql = rows_of_keys(&spread(), &[&id], &["d.name".into()], RowLock::None);
        assert_eq!(sql, format!("select b.sequin_n, d.name {join}"));
        let sql = images(&spread(), &[&id], RowLock::None);
        let image = "pg_catalog.to_jsonb(d.*)::pg_catalog.text";
        assert_eq!(sql, format!("select b.sequin_n, {image} {join}"));
        assert_eq!(
            locked_rows(&spread(), &[&id]),
            format!("select b.sequin_n {join}")
        );
        let sql = different_rows(&spread(), 7, &[&id], &[(&name, false)]);
        let differ = "where pg_catalog.record_image_ne(row(d.name)::pg_catalog.record, row(b.name)";
        assert!(sql.contains(differ), "{sql}");
    }

    #[test]
    fn images_are_looked_up_by_key() {
        assert_eq!(
            images(&relation(false), &[&column("a", "integer")], RowLock::None),
            "select b.sequin_n, d.image from sequin_internal.batch() b(sequin_n integer, a integer) \
             cross join lateral (select pg_catalog.to_jsonb(d.*)::pg_catalog.text as image \
             from public.t d where d.a operator(pg_catalog.=) b.a offset 0) d"
        );
    }

    #[test]
    fn of_large_values_the_size_is_shown() {
        let quoted = |name: &str, literal: &str| (name.to_owned(), literal.to_owned());
        let columns = [quoted("a", "'a'"), quoted("\"B\"", "'B'")];
        let sql = shown(&relation(false), &[&column("a", "integer")], &columns);
        let image = "(case when greatest(pg_catalog.pg_column_size(d.a), pg_catalog.pg_column_size(d.\"B\")) > 65536 \
             then pg_catalog.jsonb_build_object('a', case when pg_catalog.pg_column_size(d.a) > 65536 then \
             pg_catalog.to_jsonb(pg_catalog.format('%s bytes, not shown', pg_catalog.pg_column_size(d.a))) \
             else pg_catalog.to_jsonb(d.a) end, 'B', case when pg_catalog.pg_column_size(d.\"B\") > 65536 then \
             pg_catalog.to_jsonb(pg_catalog.format('%s bytes, not shown', pg_catalog.pg_column_size(d.\"B\"))) \
             else pg_catalog.to_jsonb(d.\"B\") end) \
             else pg_catalog.to_jsonb(d.*) end)::pg_catalog.text as image";
        assert!(sql.contains(image), "{sql}");
        let names: Vec<_> = (0..120).map(|n| quoted(&format!("c{n}"), "'c'")).collect();
        let sql = shown(&relation(false), &[&column("a", "integer")], &names);
        assert_eq!(sql.matches("jsonb_build_object").count(), 3);
        assert_eq!(sql.matches(" operator(pg_catalog.||) ").count(), 2);
    }
}
