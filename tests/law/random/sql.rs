//! Random statements.

use support::Random;

use super::schema::{Of, Schema, TableOf};

/// How many keys, and how many texts, there are: few, so that rows meet.
const KEYS: u64 = 5;

/// A statement, or a few that belong together.
pub fn statements(schema: &Schema, random: &mut Random) -> Vec<String> {
    let table = random.of(&schema.tables);
    let name = &table.name;
    let (i, j) = (key(random), key(random));
    match random.below(16) {
        0..=3 => vec![insert(table, random)],
        4..=6 => vec![set(table, random)],
        7 => vec![format!("update {name} set id = {j} where id = {i}")],
        8 => vec![swap(table, i, j, random)],
        9 => vec![
            [
                format!("update {name} set id = id + 1"),
                format!("update {name} set id = {} - id", KEYS + 1),
                format!("update {name} set id = id - 1 where id > {i}"),
            ][random.below(3) as usize]
                .clone(),
        ],
        10 | 11 => vec![format!("delete from {name} where id = {i}")],
        12 => replaced(table, i, j, random),
        13 => moved(schema, i, j, random),
        14 => adopted(schema, i, j, random),
        _ => vec![format!("delete from {name} where id >= {i}")],
    }
}

pub fn insert(table: &TableOf, random: &mut Random) -> String {
    let columns: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let values: Vec<_> = table
        .columns
        .iter()
        .map(|column| value(column.of, column.name != "id" && column.name != "k", random))
        .collect();
    format!(
        "insert into {} ({}) values ({})",
        table.name,
        columns.join(", "),
        values.join(", ")
    )
}

fn set(table: &TableOf, random: &mut Random) -> String {
    let others = &table.columns[1..];
    let mut sets: Vec<String> = Vec::new();
    for _ in 0..=random.below(2) {
        let column = random.of(others);
        if !sets
            .iter()
            .any(|set| set.starts_with(&format!("{} =", column.name)))
        {
            sets.push(format!(
                "{} = {}",
                column.name,
                value(column.of, true, random)
            ));
        }
    }
    format!(
        "update {} set {} where id = {}",
        table.name,
        sets.join(", "),
        key(random)
    )
}

/// Two rows exchange what they have in a column.
fn swap(table: &TableOf, i: u64, j: u64, random: &mut Random) -> String {
    let (name, column) = (&table.name, &random.of(&table.columns).name);
    if column == "id" {
        return format!(
            "update {name} set id = {} - id where id in ({i}, {j})",
            i + j
        );
    }
    format!(
        "update {name} t set {column} = o.{column} from {name} o where t.id in ({i}, {j}) and o.id = {} - t.id",
        i + j
    )
}

/// A row takes the place of another one, before or after that leaves.
fn replaced(table: &TableOf, i: u64, j: u64, random: &mut Random) -> Vec<String> {
    let others: Vec<_> = table.columns[1..].iter().map(|c| c.name.as_str()).collect();
    let (name, others) = (&table.name, others.join(", "));
    let new = format!(
        "insert into {name} (id, {others}) select {j}, {others} from {name} where id = {i}"
    );
    let gone = format!("delete from {name} where id = {i}");
    let _ = random;
    vec![new, gone]
}

/// A referenced value changes, and those that refer to it follow, before or after.
fn moved(schema: &Schema, i: u64, j: u64, random: &mut Random) -> Vec<String> {
    if schema.references.is_empty() {
        return Vec::new();
    }
    let reference = random.of(&schema.references);
    let parent = &schema.tables[reference.parent];
    let child = &schema.tables[reference.child];
    let of = parent
        .columns
        .iter()
        .find(|c| c.name == reference.target)
        .expect("the target")
        .of;
    let (from, to) = match of {
        Of::Number => (i.to_string(), j.to_string()),
        _ => (text(random), text(random)),
    };
    let (column, target) = (&reference.column, &reference.target);
    let mut statements = vec![
        format!(
            "update {} set {target} = {to} where {target} = {from}",
            parent.name
        ),
        format!(
            "update {} set {column} = {to} where {column} = {from}",
            child.name
        ),
    ];
    if random.below(3) == 0 {
        statements.reverse();
    }
    statements
}

/// Children find another parent, and theirs leaves.
fn adopted(schema: &Schema, i: u64, j: u64, random: &mut Random) -> Vec<String> {
    let references: Vec<_> = schema
        .references
        .iter()
        .filter(|reference| reference.target == "id")
        .collect();
    if references.is_empty() {
        return Vec::new();
    }
    let reference = random.of(&references);
    let parent = &schema.tables[reference.parent];
    let (child, column) = (&schema.tables[reference.child].name, &reference.column);
    let leave = format!("delete from {} where id = {i}", parent.name);
    match random.below(3) {
        0 => vec![format!("delete from {child} where {column} = {i}"), leave],
        1 => vec![
            insert(parent, random),
            format!("update {child} set {column} = {j} where {column} = {i}"),
            leave,
        ],
        _ => vec![
            format!("update {child} set {column} = {j} where {column} = {i}"),
            leave,
        ],
    }
}

fn key(random: &mut Random) -> u64 {
    1 + random.below(KEYS)
}

fn text(random: &mut Random) -> String {
    format!("'{}'", random.of(&["a", "b", "c", "d", "e"]))
}

fn value(of: Of, nullable: bool, random: &mut Random) -> String {
    if nullable && random.below(6) == 0 {
        return "null".to_owned();
    }
    match of {
        Of::Number => key(random).to_string(),
        Of::Text => text(random),
        Of::Range => {
            let from = random.below(6);
            format!("'[{from},{})'", from + 1 + random.below(3))
        }
    }
}
