//! A random case: what a source has really done.

use support::Random;

use super::schema::Schema;
use super::sql::{insert, statements};
use crate::case::Case;
use crate::source::{Read, Source};

/// A case without rows and transactions.
pub fn empty_case(seed: u64, schema: &Schema) -> Case {
    let [at_source, at_destination] = schema.indexes();
    let case = Case::new(format!("seed {seed}"), schema.ddl(), "", &[])
        .at_source(at_source)
        .at_destination(at_destination);
    schema
        .soft
        .iter()
        .fold(case, |case, table| case.soft(table))
}

/// Executes random statements at the source, and adds those that it accepted to the case, in transactions that it
/// committed. False if nothing came of it.
pub fn fill(case: &mut Case, schema: &Schema, source: &mut Source, random: &mut Random) -> bool {
    source.begin();
    let mut rows = Vec::new();
    for _ in 0..4 {
        for table in &schema.tables {
            let row = insert(table, random);
            if source.accepts(&row, true) {
                rows.push(row);
            }
        }
    }
    if !source.commits() {
        return false;
    }
    case.initial = rows.join("; ");
    reads(case, schema, source, random);
    let mut done_so_far = 0;
    let wanted = 2 + random.below(5) as usize;
    for _ in 0..4 * wanted {
        if done_so_far == wanted {
            break;
        }
        // what each statement leaves is right, or what the transaction leaves
        let each = random.below(3) == 0;
        let many = 1 + random.below(4) as usize;
        source.begin();
        let mut done = Vec::new();
        for _ in 0..12 {
            if done.len() >= many && (each || source.is_consistent()) {
                break;
            }
            for sql in statements(schema, random) {
                if source.accepts(&sql, each) {
                    done.push(sql);
                }
            }
        }
        if source.commits() && !done.is_empty() {
            case.transactions.push(done.join("; "));
            done_so_far += 1;
            reads(case, schema, source, random);
        }
    }
    if case.variety.backfilled {
        for table in &schema.read {
            if !source.has_read(table) {
                read(case, table, 50, source);
            }
        }
    }
    !case.transactions.is_empty()
}

/// Reads some of the tables: long after the last transaction; shortly after it, or by a clock that says before; and
/// about when the next one is committed, which it has not seen.
fn reads(case: &mut Case, schema: &Schema, source: &mut Source, random: &mut Random) {
    for table in &schema.read {
        if random.below(4) == 0 {
            let later = *random.of(&[50, 50, 2, -2, 98, 102]);
            read(case, table, later, source);
        }
    }
}

fn read(case: &mut Case, table: &str, later: i64, source: &mut Source) {
    let table = table.to_owned();
    let read = Read { table, later };
    source.read(&read).expect("a table that is there");
    case.transactions.push(read.text());
}
