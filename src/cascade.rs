//! Rows that a delete would take along: those of tables whose foreign keys say `ON DELETE CASCADE`,
//! `SET NULL` or `SET DEFAULT`.
//!
//! The source has the same foreign keys, as a rule, and sends what they did as changes of those rows.
//! A row that refers to the one that goes may be newer than the delete: it was made after the other came
//! back, and that message has not come yet. So rows that a mapping writes are not taken along: the delete
//! waits until their own messages have moved them. Other tables are the database's to care for.

use pgrx::pg_sys::{self, Datum};

use crate::destination::Referrer;
use crate::group::{Group, Net};
use crate::pg::spi::Plan;
use crate::pg::trap::SqlError;
use crate::pg::tuples::{RowColumn, RowType};
use crate::pg::user::ActingAs;
use crate::prepared::Statement;
use crate::target::Target;

/// Fails if one of the rows that are to be deleted is still referred to so.
pub fn check(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    let referrers: Vec<usize> = (0..group.target.destination.referrers.len())
        .filter(|&i| {
            let table = group.target.destination.referrers[i].oid;
            group.mapped.contains(&table)
        })
        .collect();
    for i in referrers {
        let mut statement = match group.target.referrers.remove(&i) {
            Some(statement) => statement,
            None => make(&group.target, &group.target.destination.referrers[i])?,
        };
        // Who may delete a row need not be allowed to read those that refer to it.
        let definer = ActingAs::new(group.call.definer, false);
        let found = statement.run(nets.iter().enumerate(), |(n, net)| {
            let mut row = vec![Some(Datum::from(n as i32))];
            let key = group.target.key.iter();
            row.extend(key.map(|&i| Some(group.values[net.row + i])));
            row
        });
        drop(definer);
        group.target.referrers.insert(i, statement);
        let found = found?.returned.expect("a SELECT returns rows");
        if found.len() > 0 {
            let (mut values, mut nulls) = ([Datum::null()], [false]);
            found.read(0, &mut values, &mut nulls);
            let net = nets[values[0].value() as i32 as usize];
            group.suspects.place = Some(group.messages[net.message as usize]);
            return Err(error(&group.target, &group.target.destination.referrers[i]));
        }
    }
    Ok(())
}

fn make(target: &Target, referrer: &Referrer) -> Result<Statement, SqlError> {
    let key = target.key_sql();
    let list = |f: &dyn Fn(usize) -> String, join: &str, n: usize| {
        (0..n).map(f).collect::<Vec<_>>().join(join)
    };
    let definition = list(
        &|i| format!("{} {}", key[i].name, key[i].type_name),
        ", ",
        key.len(),
    );
    let same = |row: &str, of: &str| {
        list(
            &|i| format!("{row}.{0} {1} {of}.{0}", key[i].name, key[i].equals),
            " and ",
            key.len(),
        )
    };
    let refers = list(
        &|i| {
            let (column, to) = &referrer.columns[i];
            let quote = |name: &str| pgrx::spi::quote_identifier(name);
            format!("c.{} = d.{}", quote(column), quote(to))
        },
        " and ",
        referrer.columns.len(),
    );
    // Of a table that refers to itself, rows that go together do not hold each other.
    let others = if referrer.oid == target.destination.oid {
        format!(" and not exists (select from b o where {})", same("c", "o"))
    } else {
        String::new()
    };
    let sql = format!(
        "with b as materialized (select * from sequin.batch() b(sequin_n integer, {definition}))
         select b.sequin_n from b join {} d on {}
         where exists (select from {} c where {refers}{others}) limit 1",
        target.relation().name,
        same("d", "b"),
        referrer.name,
    );
    let mut row = vec![RowColumn::number("sequin_n")];
    row.extend(target.key.iter().map(|&i| target.columns[i].row.clone()));
    Ok(Statement {
        plan: Plan::prepare(&sql)?,
        rows: RowType::new(&row),
    })
}

/// What the server says of a foreign key that does nothing on delete.
fn error(target: &Target, referrer: &Referrer) -> SqlError {
    let mut error = SqlError::new(
        "23503",
        format!(
            "delete on table \"{}\" must not take rows of table {} along by foreign key constraint \"{}\"",
            target.destination.name, referrer.name, referrer.constraint
        ),
    )
    .with_detail("Those rows are written by a mapping: messages of their own will move or delete them.")
    .with_hint("It is tried again when they come. If the source does not send them, delete the rows.");
    error.schema = Some(referrer.schema.clone());
    error.table = Some(referrer.table.clone());
    error.constraint = Some(referrer.constraint.clone());
    error
}

/// The tables that mappings write, by OID.
pub type Mapped = std::rc::Rc<std::collections::HashSet<pg_sys::Oid>>;
