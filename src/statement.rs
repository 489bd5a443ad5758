//! The SQL that writes the rows of the batch relation. Pure text: every name is qualified and quoted.
//!
//! Each statement reads `sequin_internal.batch()` and spells out its column definition list. The rows that
//! are handed over with the statement must have exactly these columns.

#![forbid(unsafe_code)]

pub mod lookup;

use std::fmt::Write;

/// A column in the words of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlColumn {
    /// Quoted name.
    pub name: String,
    /// Type with modifier, as SQL spells it.
    pub type_name: String,
    /// Equality of the key's index, as `operator(schema.=)`; empty for a column outside of any key.
    pub equals: String,
    /// Whether the column can be inserted, but not updated: an identity that is always generated.
    pub insert_only: bool,
    /// If the batch has a part of a document, which is laid over the stored document: the document's type.
    pub merges: Option<Document>,
}

/// The type of a column that holds a whole record as a document, or the type under its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
}

/// `column = new value`, for an update that takes the new value from the relation `from`.
fn assignment(column: &SqlColumn, from: &str) -> String {
    let name = &column.name;
    match column.merges {
        Some(Document::Jsonb) => format!(
            "{name} = case when pg_catalog.jsonb_typeof(d.{name}) operator(pg_catalog.=) 'object' \
             then d.{name} operator(pg_catalog.||) {from}.{name} else {from}.{name} end"
        ),
        // The values keep their spelling.
        Some(Document::Json) => format!(
            "{name} = case when pg_catalog.json_typeof(d.{name}) operator(pg_catalog.=) 'object' \
             then (select pg_catalog.json_object_agg(m.key, m.value) from (\
             select o.key, o.value from pg_catalog.json_each(d.{name}) o \
             where not exists (select from pg_catalog.json_each({from}.{name}) n \
             where n.key operator(pg_catalog.=) o.key) \
             union all select n.key, n.value from pg_catalog.json_each({from}.{name}) n) m) \
             else {from}.{name} end"
        ),
        None => format!("{name} = {from}.{name}"),
    }
}

/// The relation that statements write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlRelation {
    /// Qualified and quoted name.
    pub name: String,
    /// Whether the relation has identity columns that are always generated.
    pub overriding: bool,
    /// A condition on `d`, the relation, that holds for all rows with the batch's keys. It tells which partitions can
    /// have them.
    pub within: Option<String>,
    /// For a table of Citus: how its rows are spread.
    pub shards: Option<Shards>,
}

/// How Citus spreads the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shards {
    /// The quoted name of the column whose value tells the shard of a row. It cannot be updated. None if one shard has
    /// all rows.
    pub column: Option<String>,
}

impl SqlRelation {
    /// Whether Citus refuses updates of a column.
    pub fn is_fixed(&self, column: &str) -> bool {
        let shards = self.shards.as_ref();
        shards.and_then(|shards| shards.column.as_deref()) == Some(column)
    }
}

/// Where a statement takes its rows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'s> {
    /// The batch relation.
    Batch,
    /// A part of the batch relation of [`together`], in these of its columns, under a condition: see [`after`].
    Part {
        number: usize,
        columns: &'s [usize],
        after: &'s str,
    },
}

impl Input<'_> {
    /// The relation `b` of these columns, with a number of this name in front if there is one.
    fn relation(self, number_name: Option<&str>, columns: &[&SqlColumn]) -> String {
        match self {
            Input::Batch => batch("b", number_name, columns),
            Input::Part {
                number,
                columns: places,
                after,
            } => {
                let names = columns.iter().map(|column| column.name.as_str());
                let names = number_name.into_iter().chain(names);
                let list: Vec<String> = names
                    .zip(places)
                    .map(|(name, &place)| format!("b.{} as {name}", part_column(place)))
                    .collect();
                format!(
                    "(select {} from sequin_parts b where b.sequin_part operator(pg_catalog.=) {number} \
                     and {after}) b",
                    list.join(", ")
                )
            }
        }
    }
}

/// The name of a column in the batch relation of [`together`].
pub fn part_column(column: usize) -> String {
    format!("sequin_c{column}")
}

/// Several statements as one, which sees the rows as they were before all of them. Each is done when the ones
/// before it are. They read parts of one batch relation, whose column definition list is given. It returns how many
/// rows each of them has written.
pub fn together(definition: &str, parts: &[String]) -> String {
    let mut sql = format!(
        "with sequin_parts as materialized (select * from sequin_internal.batch() b({definition}))"
    );
    let mut counts = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        write!(sql, ", sequin_w{i} as ({part})").expect("a String takes all");
        counts.push(format!("(select pg_catalog.count(*) from sequin_w{i})"));
    }
    format!("{sql} select {}", counts.join(", "))
}

/// The condition that the part of [`together`] before this one has been done. It counts, once, that this part begins.
pub fn after(part: usize) -> String {
    let before = match part.checked_sub(1) {
        // The rows are taken before they are counted.
        None => String::from("sequin_parts"),
        Some(before) => format!("sequin_w{before}"),
    };
    format!(
        "(select {NEXT_ROW} from (select pg_catalog.count(*) as n from {before}) w \
         where w.n operator(pg_catalog.>=) 0)"
    )
}

/// A name that begins so and is the beginning of no name among `taken`.
pub fn free_name<'n>(name: &str, taken: impl Iterator<Item = &'n str> + Clone) -> String {
    let mut free = name.to_owned();
    while taken
        .clone()
        .any(|taken| taken.trim_start_matches('"').starts_with(&free))
    {
        free.push('_');
    }
    free
}

/// The name of the number in a batch relation of these columns.
pub fn number_name(columns: &[&SqlColumn]) -> String {
    free_name(
        "sequin_n",
        columns.iter().map(|column| column.name.as_str()),
    )
}

/// The batch relation `b` of these columns with a number in front, and the number's name.
pub fn numbered_batch(columns: &[&SqlColumn]) -> (String, String) {
    let number = number_name(columns);
    let batch = batch("b", Some(&number), columns);
    (number, batch)
}

/// `b(id bigint, name text)`, with a number of this name in front.
fn batch(alias: &str, number: Option<&str>, columns: &[&SqlColumn]) -> String {
    let number = number.map(|number| format!("{number} integer"));
    let columns = columns.iter();
    let columns = columns.map(|column| format!("{} {}", column.name, column.type_name));
    let definition: Vec<String> = number.into_iter().chain(columns).collect();
    format!("sequin_internal.batch() {alias}({})", definition.join(", "))
}

/// A statement that changes rows by the batch relation `b`, numbered by the column whose name the statement gets.
fn over_batch(
    input: Input<'_>,
    columns: &[&SqlColumn],
    statement: impl FnOnce(&str, &str) -> String,
) -> String {
    let n = number_name(columns);
    statement(&input.relation(Some(&n), columns), &n)
}

fn list(columns: &[&SqlColumn], prefix: &str) -> String {
    columns
        .iter()
        .map(|c| format!("{prefix}{}", c.name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The condition that the row `d` of the relation has the key of the row `b`.
fn matches(relation: &SqlRelation, key: &[&SqlColumn]) -> String {
    matches_by(relation, key, |i| key[i].name.clone())
}

/// The same, where the columns of the batch relation have these names.
fn matches_by(
    relation: &SqlRelation,
    key: &[&SqlColumn],
    name: impl Fn(usize) -> String,
) -> String {
    let key = key.iter().enumerate();
    let equal = key.map(|(i, c)| format!("d.{} {} b.{}", c.name, c.equals, name(i)));
    let all: Vec<_> = equal.chain(relation.within.clone()).collect();
    all.join(" and ")
}

/// The SET list of an update: every column that is not of the key and can be updated takes its value from
/// the relation `from`; `constants` (`column`, `expression`) follow.
fn assignments(
    columns: &[&SqlColumn],
    key: &[&SqlColumn],
    constants: &[(String, String)],
    from: &str,
) -> Vec<String> {
    let constants = constants.iter();
    columns
        .iter()
        .filter(|c| !key.contains(c) && !c.insert_only)
        .map(|c| assignment(c, from))
        .chain(constants.map(|(name, value)| format!("{name} = {value}")))
        .collect()
}

/// `INSERT … ON CONFLICT (key) DO UPDATE`: rows of `columns`, the key among them. In a row that exists and
/// for which `condition` holds, `constants` (`column`, `expression`, both quoted) are set too.
pub fn upsert(
    input: Input<'_>,
    relation: &SqlRelation,
    columns: &[&SqlColumn],
    key: &[&SqlColumn],
    constants: &[(String, String)],
    condition: Option<&str>,
) -> String {
    let set = assignments(columns, key, constants, "excluded");
    let action = if set.is_empty() {
        "do nothing".to_owned()
    } else {
        let condition = condition.map(|c| format!(" where {c}")).unwrap_or_default();
        format!("do update set {}{condition}", set.join(", "))
    };
    format!(
        "{} on conflict ({}) {action}",
        insert(input, relation, columns),
        list(key, "")
    )
}

/// Condition under guard columns: the row's version is older than the change's. A row without a position has the
/// time of its read, which must not be more than `read_skew` microseconds after the change.
pub fn newer(relation: &SqlRelation, read_skew: i64) -> String {
    let after = match relation.shards {
        None => format!(
            "d.sequin_committed_at > excluded.sequin_committed_at + {read_skew} * interval '1 microsecond'"
        ),
        Some(_) => later("d", "excluded", &read_skew.to_string()),
    };
    format!(
        "d.sequin_lsn is null and ({after}) is not true or (d.sequin_lsn, d.sequin_idx) < \
         (excluded.sequin_lsn, excluded.sequin_idx)"
    )
}

/// Condition under guard columns: the row's last change was committed more than `read_skew` microseconds
/// before the read, and no later read was applied.
pub fn late_enough(relation: &SqlRelation, read_skew: i64) -> String {
    let skew = format!("case when d.sequin_lsn is null then 0 else {read_skew} end");
    let after = match relation.shards {
        None => format!(
            "excluded.sequin_committed_at > d.sequin_committed_at + {skew} * interval '1 microsecond'"
        ),
        Some(_) => later("excluded", "d", &skew),
    };
    format!("d.sequin_committed_at is null or {after}")
}

/// Whether the time of the row `a` is more than some microseconds after that of the row `b`, by immutable functions alone:
/// Citus demands that. A difference of times is one, a sum is none. Infinite times have no difference.
fn later(a: &str, b: &str, microseconds: &str) -> String {
    let (a, b) = (
        format!("{a}.sequin_committed_at"),
        format!("{b}.sequin_committed_at"),
    );
    format!(
        "case when isfinite({a}) and isfinite({b}) \
         then {a} - {b} > {microseconds} * interval '1 microsecond' else {a} > {b} end"
    )
}

/// What counts the rows that a statement reads, once in it.
pub const NEXT_ROW: &str = "sequin_internal.next_row()";

/// `INSERT`: rows of `columns`. `next_row` counts the rows as they are read, which tells the row of an
/// error.
pub fn insert(input: Input<'_>, relation: &SqlRelation, columns: &[&SqlColumn]) -> String {
    let overriding = if relation.overriding {
        " overriding system value"
    } else {
        ""
    };
    format!(
        "insert into {} as d ({}){overriding} select {} from {} where {NEXT_ROW}",
        relation.name,
        list(columns, ""),
        list(columns, "b."),
        input.relation(None, columns),
    )
}

/// An insert that returns a list of values. For a table of Citus it is a part of a query: as a statement it fails where it
/// writes fewer rows than it reads, and its count is that of the rows that it reads.
pub fn returning(relation: &SqlRelation, insert: &str, list: &str) -> String {
    match relation.shards {
        None => format!("{insert} returning {list}"),
        Some(_) => format!("with w as ({insert} returning {list}) select * from w"),
    }
}

/// An insert of which the rows are counted that it writes.
pub fn counted(relation: &SqlRelation, insert: String) -> String {
    match relation.shards {
        None => insert,
        Some(_) => returning(relation, &insert, "true as written"),
    }
}

/// `INSERT … ON CONFLICT (key) DO NOTHING`: rows of `columns`.
pub fn insert_new(
    input: Input<'_>,
    relation: &SqlRelation,
    columns: &[&SqlColumn],
    key: &[&SqlColumn],
) -> String {
    insert_unless(input, relation, columns, &format!("({})", list(key, "")))
}

/// `INSERT … ON CONFLICT … DO NOTHING`: rows of `columns`, unless `arbiter`, which `ON CONFLICT` names, knows them.
pub fn insert_unless(
    input: Input<'_>,
    relation: &SqlRelation,
    columns: &[&SqlColumn],
    arbiter: &str,
) -> String {
    format!(
        "{} on conflict {arbiter} do nothing",
        insert(input, relation, columns)
    )
}

/// `UPDATE` of the rows that exist. It returns the number that each of them has in the batch relation, in
/// the first column, an integer.
pub fn update(
    input: Input<'_>,
    relation: &SqlRelation,
    columns: &[&SqlColumn],
    key: &[&SqlColumn],
    constants: &[(String, String)],
) -> String {
    let mut set = assignments(columns, key, constants, "b");
    if set.is_empty() {
        // an update must set something, to find the row
        let name = &key[0].name;
        let from = match relation.is_fixed(name) {
            true => "d",
            false => "b",
        };
        set.push(format!("{name} = {from}.{name}"));
    }
    update_where(input, relation, columns, &set, &matches(relation, key))
}

/// `UPDATE` of the rows for which a condition on `d` and `b` holds; `columns` are those of the batch relation.
fn update_where(
    input: Input<'_>,
    relation: &SqlRelation,
    columns: &[&SqlColumn],
    set: &[String],
    condition: &str,
) -> String {
    over_batch(input, columns, |batch, n| {
        format!(
            "update {} as d set {} from {batch} where {condition} returning b.{n}",
            relation.name,
            set.join(", "),
        )
    })
}

/// `UPDATE` of rows that get another key. The batch relation has the key that a row has now, then the row's new
/// columns.
pub fn move_rows(
    input: Input<'_>,
    relation: &SqlRelation,
    columns: &[&SqlColumn],
    key: &[&SqlColumn],
    constants: &[(String, String)],
) -> String {
    let prefix = free_name("sequin_former_", columns.iter().map(|c| c.name.as_str()));
    let former = |i: usize| format!("{prefix}{i}");
    let former_key: Vec<SqlColumn> = (0..key.len())
        .map(|i| SqlColumn {
            name: former(i),
            ..key[i].clone()
        })
        .collect();
    let fixed: Vec<&SqlColumn> = key
        .iter()
        .filter(|c| relation.is_fixed(&c.name))
        .copied()
        .collect();
    let set = assignments(columns, &fixed, constants, "b");
    let all: Vec<&SqlColumn> = former_key.iter().chain(columns.iter().copied()).collect();
    update_where(
        input,
        relation,
        &all,
        &set,
        &matches_by(relation, key, former),
    )
}

/// `DELETE` by key. It returns the number that each deleted row has in the batch relation, in the first
/// column, an integer.
pub fn delete(input: Input<'_>, relation: &SqlRelation, key: &[&SqlColumn]) -> String {
    over_batch(input, key, |batch, n| {
        format!(
            "delete from {} as d using {batch} where {} returning b.{n}",
            relation.name,
            matches(relation, key),
        )
    })
}

/// Marks rows as deleted: sets the column to the batch relation's value in rows that are not yet marked.
pub fn soft_delete(
    input: Input<'_>,
    relation: &SqlRelation,
    key: &[&SqlColumn],
    mark: &SqlColumn,
) -> String {
    let unmarked = if mark.type_name == "boolean" {
        "is not true"
    } else {
        "is null"
    };
    let mut columns = vec![mark];
    columns.extend(key);
    over_batch(input, &columns, |batch, n| {
        format!(
            "update {} as d set {1} = b.{1} from {batch} where {2} and d.{1} {unmarked} \
             returning b.{n}",
            relation.name,
            mark.name,
            matches(relation, key),
        )
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A column of a type.
    pub fn column(name: &str, type_name: &str) -> SqlColumn {
        SqlColumn {
            name: name.into(),
            type_name: type_name.into(),
            equals: "operator(pg_catalog.=)".into(),
            insert_only: false,
            merges: None,
        }
    }

    /// A plain table.
    pub fn relation(overriding: bool) -> SqlRelation {
        SqlRelation {
            name: "public.t".into(),
            overriding,
            within: None,
            shards: None,
        }
    }

    #[test]
    fn upserts() {
        let (id, name) = (column("id", "bigint"), column("\"Name\"", "text"));
        assert_eq!(
            upsert(
                Input::Batch,
                &relation(false),
                &[&id, &name],
                &[&id],
                &[],
                None
            ),
            "insert into public.t as d (id, \"Name\") select b.id, b.\"Name\" \
             from sequin_internal.batch() b(id bigint, \"Name\" text) where sequin_internal.next_row() \
             on conflict (id) do update set \"Name\" = excluded.\"Name\""
        );
        assert_eq!(
            upsert(Input::Batch, &relation(true), &[&id], &[&id], &[], None),
            "insert into public.t as d (id) overriding system value select b.id \
             from sequin_internal.batch() b(id bigint) where sequin_internal.next_row() \
             on conflict (id) do nothing"
        );
        assert_eq!(
            upsert(
                Input::Batch,
                &relation(false),
                &[&id],
                &[&id],
                &[("gone".into(), "null".into())],
                Some("x")
            ),
            "insert into public.t as d (id) select b.id from sequin_internal.batch() b(id bigint) \
             where sequin_internal.next_row() on conflict (id) do update set gone = null where x"
        );
    }

    #[test]
    fn several_statements_run_in_turn_as_one() {
        let (id, name) = (column("id", "bigint"), column("name", "text"));
        let first = Input::Part {
            number: 0,
            columns: &[1, 0],
            after: &after(0),
        };
        let first = upsert(first, &relation(false), &[&id, &name], &[&id], &[], None);
        let second = Input::Part {
            number: 1,
            columns: &[2, 1],
            after: &after(1),
        };
        let second = delete(second, &relation(false), &[&id]);
        // The first counts the rows of the batch, and each of the others the rows that the one before it has written.
        let part = |number: usize, columns: &str, before: &str| {
            format!(
                "(select {columns} from sequin_parts b where b.sequin_part operator(pg_catalog.=) {number} and \
                 (select sequin_internal.next_row() from (select pg_catalog.count(*) as n from {before}) w \
                 where w.n operator(pg_catalog.>=) 0)) b"
            )
        };
        assert_eq!(
            first,
            format!(
                "insert into public.t as d (id, name) select b.id, b.name from {} where sequin_internal.next_row() \
                 on conflict (id) do update set name = excluded.name",
                part(0, "b.sequin_c1 as id, b.sequin_c0 as name", "sequin_parts")
            )
        );
        assert_eq!(
            second,
            format!(
                "delete from public.t as d using {} where d.id operator(pg_catalog.=) b.id returning b.sequin_n",
                part(1, "b.sequin_c2 as sequin_n, b.sequin_c1 as id", "sequin_w0")
            )
        );
        assert!(after(2).contains(" from sequin_w1)"));
        let definition = "sequin_part integer, sequin_c0 text";
        assert_eq!(
            together(
                definition,
                &["delete one".to_owned(), "delete two".to_owned()]
            ),
            "with sequin_parts as materialized \
             (select * from sequin_internal.batch() b(sequin_part integer, sequin_c0 text)), \
             sequin_w0 as (delete one), sequin_w1 as (delete two) \
             select (select pg_catalog.count(*) from sequin_w0), (select pg_catalog.count(*) from sequin_w1)"
        );
    }

    #[test]
    fn updates_and_deletes_name_the_rows_they_found() {
        let (a, b, c) = (
            column("a", "integer"),
            column("b", "text"),
            column("c", "jsonb"),
        );
        assert_eq!(
            update(
                Input::Batch,
                &relation(false),
                &[&a, &b, &c],
                &[&a, &b],
                &[]
            ),
            "update public.t as d set c = b.c \
             from sequin_internal.batch() b(sequin_n integer, a integer, b text, c jsonb) \
             where d.a operator(pg_catalog.=) b.a and d.b operator(pg_catalog.=) b.b \
             returning b.sequin_n"
        );
        assert_eq!(
            delete(Input::Batch, &relation(false), &[&a, &b]),
            "delete from public.t as d using sequin_internal.batch() b(sequin_n integer, a integer, b text) \
             where d.a operator(pg_catalog.=) b.a and d.b operator(pg_catalog.=) b.b \
             returning b.sequin_n"
        );
    }

    #[test]
    fn the_number_and_the_former_key_have_free_names() {
        let names = ["sequin_n", "sequin_n_", "sequin_former_0"];
        let [a, b, c] = names.map(|name| column(name, "integer"));
        assert!(delete(Input::Batch, &relation(false), &[&c]).ends_with("returning b.sequin_n"));
        let sql = move_rows(Input::Batch, &relation(false), &[&a, &b, &c], &[&c], &[]);
        assert!(
            sql.contains("b(sequin_n__ integer, sequin_former__0 integer, sequin_n integer, "),
            "{sql}"
        );
        assert!(
            sql.ends_with(
                "d.sequin_former_0 operator(pg_catalog.=) b.sequin_former__0 returning b.sequin_n__"
            ),
            "{sql}"
        );
        assert_eq!(free_name("a", ["\"a b\""].into_iter()), "a_");
    }

    #[test]
    fn columns_that_cannot_be_updated_are_not() {
        let (id, serial) = (column("id", "bigint"), column("serial", "bigint"));
        let serial = SqlColumn {
            insert_only: true,
            ..serial
        };
        let sql = upsert(
            Input::Batch,
            &relation(true),
            &[&id, &serial],
            &[&id],
            &[],
            None,
        );
        assert!(sql.ends_with("on conflict (id) do nothing"), "{sql}");
        let sql = update(Input::Batch, &relation(true), &[&id, &serial], &[&id], &[]);
        assert!(sql.contains("as d set id = b.id from"), "{sql}");
        let constants = [("gone".to_owned(), "null".to_owned())];
        let sql = update(
            Input::Batch,
            &relation(true),
            &[&id, &serial],
            &[&id],
            &constants,
        );
        assert!(sql.contains("as d set gone = null from"), "{sql}");
    }

    #[test]
    fn parts_of_a_document_are_laid_over_it() {
        let (id, doc) = (column("id", "bigint"), column("doc", "jsonb"));
        let doc = SqlColumn {
            merges: Some(Document::Jsonb),
            ..doc
        };
        let expected = |from: &str| {
            format!(
                "set doc = case when pg_catalog.jsonb_typeof(d.doc) operator(pg_catalog.=) \
                 'object' then d.doc operator(pg_catalog.||) {from}.doc else {from}.doc end"
            )
        };
        let sql = upsert(
            Input::Batch,
            &relation(false),
            &[&id, &doc],
            &[&id],
            &[],
            None,
        );
        assert!(sql.ends_with(&expected("excluded")), "{sql}");
        let sql = update(Input::Batch, &relation(false), &[&id, &doc], &[&id], &[]);
        assert!(sql.contains(&expected("b")), "{sql}");
        let doc = SqlColumn {
            merges: Some(Document::Json),
            ..doc
        };
        let sql = update(Input::Batch, &relation(false), &[&id, &doc], &[&id], &[]);
        assert!(
            sql.contains(
                "set doc = case when pg_catalog.json_typeof(d.doc) operator(pg_catalog.=) 'object' then \
                 (select pg_catalog.json_object_agg(m.key, m.value) from (\
                 select o.key, o.value from pg_catalog.json_each(d.doc) o \
                 where not exists (select from pg_catalog.json_each(b.doc) n \
                 where n.key operator(pg_catalog.=) o.key) union all \
                 select n.key, n.value from pg_catalog.json_each(b.doc) n) m) else b.doc end from"
            ),
            "{sql}"
        );
    }

    #[test]
    fn rows_are_marked_once() {
        let id = column("id", "bigint");
        let at = soft_delete(
            Input::Batch,
            &relation(false),
            &[&id],
            &column("gone", "timestamp"),
        );
        assert!(at.contains("set gone = b.gone from"), "{at}");
        assert!(at.contains("and d.gone is null returning"), "{at}");
        let flag = soft_delete(
            Input::Batch,
            &relation(false),
            &[&id],
            &column("gone", "boolean"),
        );
        assert_eq!(
            flag,
            "update public.t as d set gone = b.gone \
             from sequin_internal.batch() b(sequin_n integer, gone boolean, id bigint) \
             where d.id operator(pg_catalog.=) b.id and d.gone is not true returning b.sequin_n"
        );
    }

    #[test]
    fn new_rows_and_late_reads() {
        let id = column("id", "bigint");
        let sql = insert_new(Input::Batch, &relation(false), &[&id], &[&id]);
        assert!(sql.ends_with("on conflict (id) do nothing"), "{sql}");
        let plain = relation(false);
        assert!(late_enough(&plain, 250).contains("else 250 end"));
        assert!(newer(&plain, 250).contains("excluded.sequin_committed_at + 250 * interval"));
    }

    /// A relation that is distributed over its column `id`.
    pub fn spread() -> SqlRelation {
        let shards = Shards {
            column: Some("id".into()),
        };
        SqlRelation {
            shards: Some(shards),
            ..relation(false)
        }
    }

    #[test]
    fn citus_counts_what_is_returned() {
        let id = column("id", "integer");
        let new = insert_new(Input::Batch, &spread(), &[&id], &[&id]);
        assert_eq!(
            counted(&spread(), new.clone()),
            format!("with w as ({new} returning true as written) select * from w")
        );
        assert_eq!(counted(&relation(false), new.clone()), new);
    }

    #[test]
    fn citus_gets_immutable_conditions() {
        let both = newer(&spread(), 250) + &late_enough(&spread(), 250);
        assert!(!both.contains("_at +"), "{both}");
        let read = "then excluded.sequin_committed_at - d.sequin_committed_at > \
                    case when d.sequin_lsn is null then 0 else 250 end * interval '1 microsecond'";
        assert!(both.contains(read), "{both}");
    }

    #[test]
    fn citus_updates_no_distribution_column() {
        let (id, tenant) = (column("id", "integer"), column("tenant", "integer"));
        let key = [&tenant, &id];
        let sql = move_rows(Input::Batch, &spread(), &key, &key, &[]);
        assert!(sql.contains(" set tenant = b.tenant from"), "{sql}");
        let sql = update(Input::Batch, &spread(), &[&id], &[&id], &[]);
        assert!(sql.contains(" set id = d.id from"), "{sql}");
    }
}
