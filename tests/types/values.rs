//! Types, and values of each: random ones, with the awkward among them more often than chance would have it. A value is
//! a text for the type's input function, which may refuse it.

mod documents;
mod made;
mod numbers;
mod ranges;
mod texts;
mod times;

use support::Random;

use super::spelling::{Of, quoted};
use documents::documents;
use made::{domains, enums_and_composites, extension_types, server_s_own};
use numbers::numbers;
use ranges::{networks_and_bits, ranges, shapes};
use texts::texts;
use times::times;

/// A type of a column.
pub struct Type {
    /// As SQL writes it.
    pub sql: String,
    /// What it is to Sequin.
    pub of: Of,
    make: Make,
}

type Make = Box<dyn Fn(&mut Random) -> String>;

impl Type {
    /// A value.
    pub fn value(&self, random: &mut Random) -> String {
        (self.make)(random)
    }
}

/// What the types are made of; those of extensions are named in [`EXTENSIONS`].
pub const TYPES: &str = r#"
    create schema "Odd Schema";
    create type mood as enum ('sad', 'happy', 'with space', 'qu"o''te', 'NULL', '');
    create type "Odd Schema"."Mood ""x""" as enum ('Ä', 'b,c');
    create type addr as (street text, zip int, ok bool);
    create type "Odd Schema"."Addr" as ("Street ""x""" text, "select" numeric, at timestamptz);
    create type deep as (id bigint, home addr, homes addr[], doc jsonb, tags text[], every interval);
    create type floatrange as range (subtype = float8);
    create domain posint as int check (value > 0);
    create domain dom2 as posint check (value < 1000);
    create domain money_d as numeric(10,2);
    create domain short as varchar(5);
    create domain list as int[] check (cardinality(value) < 100);
    create domain jsond as jsonb;
    create domain jsondd as jsond;
    create domain boold as bool;
    create domain spand as interval;
    create domain tsd as timestamptz;
    create domain uuidd as uuid;
    create domain bytead as bytea;
    create domain moodd as mood;
    create domain addrd as addr;
"#;

/// Extensions with types.
pub const EXTENSIONS: [&str; 7] = [
    "citext", "hstore", "ltree", "cube", "seg", "isn", "intarray",
];

/// Every type, those of these extensions too.
pub fn types(extensions: &[&str]) -> Vec<Type> {
    let mut types = Vec::new();
    numbers(&mut types);
    texts(&mut types);
    times(&mut types);
    documents(&mut types);
    ranges(&mut types);
    networks_and_bits(&mut types);
    shapes(&mut types);
    server_s_own(&mut types);
    enums_and_composites(&mut types);
    domains(&mut types);
    for name in extensions {
        extension_types(&mut types, name);
    }
    types
}

/// Types whose arrays Sequin sends in one dimension only: it cuts boxes at the wrong places, and a list in a list of
/// documents is a document.
const ONE_DIMENSION: [&str; 4] = ["box", "json", "jsonb", "jsond"];

/// A type and its array.
fn add(types: &mut Vec<Type>, sql: &str, of: Of, array: Of, make: fn(&mut Random) -> String) {
    types.push(Type {
        sql: sql.to_owned(),
        of,
        make: Box::new(make),
    });
    let delimiter = if sql == "box" { ';' } else { ',' };
    let most = if ONE_DIMENSION.contains(&sql) { 1 } else { 3 };
    let make = Box::new(move |random: &mut Random| self::array(random, delimiter, most, make));
    types.push(Type {
        sql: format!("{sql}[]"),
        of: array,
        make,
    });
}

/// A type whose array a read has.
fn add_readable(types: &mut Vec<Type>, sql: &str, of: Of, make: fn(&mut Random) -> String) {
    add(types, sql, of.clone(), Of::Array(of.into()), make);
}

/// A type that is null in reads, and so is its array.
fn add_unreadable(types: &mut Vec<Type>, sql: &str, make: fn(&mut Random) -> String) {
    let array = Of::UnreadableArray(Of::Unreadable.into());
    add(types, sql, Of::Unreadable, array, make);
}

/// A type that is null in reads; at its array they fail.
fn add_failing(types: &mut Vec<Type>, sql: &str, make: fn(&mut Random) -> String) {
    let array = Of::FailingArray(Of::Unreadable.into());
    add(types, sql, Of::Unreadable, array, make);
}

/// An array's literal, of up to three dimensions, now and then with lower bounds of its own.
fn array(
    random: &mut Random,
    delimiter: char,
    most: usize,
    make: fn(&mut Random) -> String,
) -> String {
    if random.below(10) == 0 {
        return "{}".to_owned();
    }
    let dimensions: Vec<_> = (0..*random.of(&[1, 1, 1, 2, most]))
        .take(most)
        .map(|_| 1 + random.below(4))
        .collect();
    let mut text = String::new();
    if random.below(12) == 0 {
        for count in &dimensions {
            let lower = random.below(7) as i64 - 3;
            text += &format!("[{lower}:{}]", lower + *count as i64 - 1);
        }
        text.push('=');
    }
    fill(random, delimiter, make, &dimensions, &mut text);
    text
}

fn fill(
    random: &mut Random,
    delimiter: char,
    make: fn(&mut Random) -> String,
    dimensions: &[u64],
    text: &mut String,
) {
    let Some((count, inner)) = dimensions.split_first() else {
        match random.below(6) {
            0 => text.push_str("NULL"),
            _ => text.push_str(&quoted(&make(random))),
        }
        return;
    };
    text.push('{');
    for i in 0..*count {
        if i > 0 {
            text.push(delimiter);
        }
        fill(random, delimiter, make, inner, text);
    }
    text.push('}');
}

/// One of these, a third of the time; else what `make` gives.
fn edge(random: &mut Random, edges: &[&str], make: impl FnOnce(&mut Random) -> String) -> String {
    match random.below(3) {
        0 => (*random.of(edges)).to_owned(),
        _ => make(random),
    }
}
