//! What a random case has besides its schema: how its tables are mapped, what kind of tables the destination has, what
//! Sequin does not repeat, and what backfills read.

use support::{Random, number};

use super::schema::{Of, Schema, TableOf};
use crate::case::Case;
use crate::variety::{Kind, Mapped};

/// Which features there are; `LAW_FEATURES` is the sum of those that are wanted.
const READS: u64 = 1;
const LARGE: u64 = 2;
const KINDS: u64 = 4;
const KEYS: u64 = 8;
const TYPES: u64 = 16;
const COMPUTED: u64 = 32;
const FILTERS: u64 = 64;

/// Whether a feature is drawn, in one of so many cases.
fn drawn(feature: u64, of: u64, random: &mut Random) -> bool {
    random.below(of) == 0 && number("LAW_FEATURES", u64::MAX) & feature > 0
}

/// Adds features to the case of a schema.
pub fn add(case: &mut Case, schema: &mut Schema, full: bool, random: &mut Random) {
    if drawn(READS, 2, random) {
        reads(case, schema, random);
    }
    if !full && drawn(LARGE, 1, random) {
        large(case, schema, random);
    }
    if drawn(TYPES, 3, random) {
        types(case, schema, random);
    }
    for n in 0..schema.tables.len() {
        let table = schema.tables[n].clone();
        let own_key = full && own_key(case, schema, &table, random);
        if !own_key && drawn(KINDS, 2, random) {
            kind(case, schema, &table, random);
        }
        if drawn(COMPUTED, 4, random) {
            computed(case, schema, &table, random);
        }
        if schema
            .references
            .iter()
            .all(|reference| reference.parent != n)
            && drawn(FILTERS, 3, random)
        {
            filter(case, schema, &table, random);
        }
    }
}

/// Tables that are read. A column that a backfill cannot read may not be in the key; and where the rows come by reads
/// alone, there may be none.
fn reads(case: &mut Case, schema: &mut Schema, random: &mut Random) {
    let is_padded = schema.text == "char(1)";
    let is_readable = |table: &&TableOf| !is_padded || table.key.is_none();
    let names = schema.tables.iter().filter(is_readable);
    schema.read = names.map(|table| table.name.clone()).collect();
    let has_range = |table: &TableOf| table.columns.iter().any(|c| c.of == Of::Range);
    case.variety.backfilled =
        random.below(2) == 0 && !is_padded && !schema.tables.iter().any(has_range);
}

fn large(case: &mut Case, schema: &Schema, random: &mut Random) {
    if schema.text != "text" {
        return;
    }
    for table in &schema.tables {
        let others = table
            .columns
            .iter()
            .filter(|c| c.of == Of::Text && c.name != "k");
        for column in others {
            if random.below(2) == 0 {
                let column = (table.name.clone(), column.name.clone());
                case.variety.large.push(column);
            }
        }
    }
}

fn types(case: &mut Case, schema: &Schema, random: &mut Random) {
    let wider: &[&str] = match schema.number {
        "int" => &["bigint", "numeric", "text", "varchar"],
        "smallint" => &["int", "numeric(10,0)", "text"],
        _ => &["numeric", "text"],
    };
    let text = match schema.text {
        "text" => "varchar",
        "char(1)" => "char(1)",
        _ => "text",
    };
    let pairs = [(schema.number, *random.of(wider)), (schema.text, text)];
    for (from, to) in pairs {
        if from != to && random.below(3) > 0 {
            case.variety.types.push((from.to_owned(), to.to_owned()));
        }
    }
}

/// Another column tells the rows apart than the primary key.
fn own_key(case: &mut Case, schema: &Schema, table: &TableOf, random: &mut Random) -> bool {
    let column = table.columns.iter().find(|column| {
        let unique = schema.unique(&table.name, &column.name);
        column.not_null && column.of == Of::Text && column.name != "k" && unique
    });
    let Some(column) = column else { return false };
    // a read does not tell it
    if schema.text == "char(1)" || !drawn(KEYS, 2, random) {
        return false;
    }
    case.mapped.push(Mapped {
        table: table.name.clone(),
        arguments: format!(", key => '{{{}}}'", column.name),
        ..Mapped::default()
    });
    true
}

/// A partitioned table where the constraints allow it, or a table from which another one inherits.
fn kind(case: &mut Case, schema: &Schema, table: &TableOf, random: &mut Random) {
    let name = &table.name;
    let inherited = Kind {
        table: name.clone(),
        after: String::new(),
        more: format!("create table {name}_0 () inherits ({name})"),
    };
    let key = match table.key {
        Some(second) if random.below(2) == 0 => &table.columns[second],
        _ => &table.columns[0],
    };
    let partitioned = match random.below(3) {
        0 => Kind {
            table: name.clone(),
            after: format!("partition by hash ({})", key.name),
            more: (0..2)
                .map(|n| {
                    format!("create table {name}_{n} partition of {name} for values with (modulus 2, remainder {n})")
                })
                .collect::<Vec<_>>()
                .join("; "),
        },
        n => {
            let values = match key.of {
                Of::Number => "'1', '3'",
                _ => "'a', 'c'",
            };
            let rest = match n {
                1 => format!("create table {name}_1 partition of {name} default"),
                _ => format!(
                    "create table {name}_1 partition of {name} default partition by hash ({}); create table {name}_2 partition of {name}_1 for values with (modulus 1, remainder 0)",
                    key.name
                ),
            };
            Kind {
                table: name.clone(),
                after: format!("partition by list ({})", key.name),
                more: format!("create table {name}_0 partition of {name} for values in ({values}); {rest}"),
            }
        }
    };
    let kind = match schema.can_be_partitioned(name, &key.name) && random.below(4) > 0 {
        true => partitioned,
        false => inherited,
    };
    case.variety.kinds.push(kind);
}

/// A column of the destination that SQL computes of a column of the source; unique where that one is.
fn computed(case: &mut Case, schema: &Schema, table: &TableOf, random: &mut Random) {
    let text: Vec<_> = table
        .columns
        .iter()
        .filter(|c| c.of == Of::Text && c.name != "k")
        .collect();
    let of = *random.of(&text);
    if schema.text == "char(1)" {
        return;
    }
    let (name, column) = (&table.name, &of.name);
    let mut ddl = format!("alter table {name} add s text");
    let is_partitioned = case
        .variety
        .kinds
        .iter()
        .any(|kind| kind.table == *name && !kind.after.is_empty());
    if schema.unique(name, column) && !is_partitioned && random.below(2) == 0 {
        ddl += " unique";
    }
    let arguments = format!(
        r#", columns => '{{"s": {{"sql": "''x'' || (record->>''{column}'')"}}, "*": "record.*"}}'"#
    );
    case.mapped.push(Mapped {
        table: name.clone(),
        arguments,
        computed: Some((format!("'x' || {column}::text"), String::from("s"))),
        ..Mapped::default()
    });
    pair(&mut case.at_source, "select");
    pair(&mut case.at_destination, &ddl);
}

fn pair(ddl: &mut String, more: &str) {
    if !ddl.is_empty() {
        *ddl += "; ";
    }
    *ddl += more;
}

/// Only some rows of a table to which no foreign key refers.
fn filter(case: &mut Case, schema: &Schema, table: &TableOf, random: &mut Random) {
    let name = &table.name;
    let is_large = |column: &str| {
        let mut large = case.variety.large.iter();
        large.any(|(table, large)| table == name && large == column)
    };
    // what a read does not tell, and what an update does not repeat
    let columns = table.columns.iter().filter(|column| match column.of {
        Of::Number => true,
        Of::Text => schema.text != "char(1)" && !is_large(&column.name),
        Of::Range => false,
    });
    let columns: Vec<_> = columns.collect();
    let column = *random.of(&columns);
    let values = match column.of {
        Of::Number => "'1', '2', '4'",
        _ => "'a', 'b', 'd'",
    };
    let (condition, kept) = match random.below(3) {
        0 => (
            format!("(record->>'{0}' in ({values})) is not true", column.name),
            format!("({0}::text in ({values})) is not true", column.name),
        ),
        _ => (
            format!("record->>'{}' in ({values})", column.name),
            format!("{}::text in ({values})", column.name),
        ),
    };
    case.mapped.push(Mapped {
        table: name.clone(),
        arguments: format!(", filter => $${condition}$$"),
        kept,
        ..Mapped::default()
    });
}
