//! Rows that a delete would take along: those of tables whose foreign keys say `ON DELETE CASCADE`,
//! `SET NULL` or `SET DEFAULT`.
//!
//! The source has the same foreign keys, as a rule, and sends what they did as changes of those rows.
//! A row that refers to the one that goes may be newer than the delete: it was made after the other came
//! back, and that message has not come yet. So rows that a mapping writes are not taken along: the delete
//! waits until their own messages have moved them. Other tables are the database's to care for.

use pgrx::pg_sys::{self, Datum};

use crate::destination::{Column, Referrer};
use crate::error::SqlError;
use crate::group::{Group, Net};
use crate::pg::spi::{Executed, Plan, Returned};
use crate::pg::tuples::RowType;
use crate::pg::user::ActingAs;
use crate::prepared::{Statement, numbered_keys};
use crate::statement;
use crate::target::Target;

/// Fails if one of the rows that are to be deleted is still referred to so.
pub fn check(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    for i in 0..group.target.destination.referrers.len() {
        let referrer = &group.target.destination.referrers[i];
        if !referrer.cascades || !group.mapped.contains(&referrer.oid) {
            continue;
        }
        let rows = Rows::read(group, referrer, nets)?;
        // As the server's own checks of foreign keys do.
        let owner = ActingAs::untrusted(referrer.owner);
        let kept = group.target.referrers.remove(&i);
        let mut statement = match kept {
            Some(statement) => statement,
            None => {
                let select = "select b.sequin_n";
                let sql = format!("{} limit 1", referring(&group.target, referrer, select));
                prepare(&group.target, referrer, &sql)?
            }
        };
        let found = rows.run(group, &mut statement, nets);
        group.target.referrers.insert(i, statement);
        drop(owner);
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

/// For each row that is to go, the key (as bytes, of these columns; empty without any) of one that still
/// refers to it.
pub fn holders(
    group: &Group<'_>,
    referrer: &Referrer,
    key: &[String],
    nets: &[&Net],
) -> Result<Vec<Option<Vec<u8>>>, SqlError> {
    let rows = Rows::read(group, referrer, nets)?;
    let _owner = ActingAs::untrusted(referrer.owner);
    let columns: Vec<String> = key
        .iter()
        .map(|name| format!("c.{}", pgrx::spi::quote_identifier(name)))
        .collect();
    let bytes = match key {
        [] => String::from("''::bytea"),
        _ => format!("sequin.row_key({})", columns.join(", ")),
    };
    let select = format!("select b.sequin_n, {bytes}");
    let sql = referring(&group.target, referrer, &select);
    let mut statement = prepare(&group.target, referrer, &sql)?;
    let returned = rows.run(group, &mut statement, nets)?.returned;
    Ok(numbered_keys(
        &returned.expect("a SELECT returns rows"),
        nets.len(),
    ))
}

/// The columns outside of the mapping's key that a foreign key refers to.
fn others<'t>(target: &'t Target, referrer: &Referrer) -> Vec<&'t Column> {
    let key: Vec<&str> = target
        .key
        .iter()
        .map(|&i| &*target.columns[i].name)
        .collect();
    let columns = target.destination.columns.iter();
    columns
        .filter(|c| {
            !key.contains(&&*c.name) && referrer.columns.iter().any(|(_, to, _)| *to == c.name)
        })
        .collect()
}

/// Rows that are to go, by which those that refer to them are looked for: the key, as a rule. What else
/// is referred to is read as the mapping's owner: a policy of the destination must not run as the owner
/// of another table.
struct Rows {
    /// The other columns of the rows that are there, behind their number; none if there are no such.
    others: Option<Returned>,
}

impl Rows {
    fn read(group: &Group<'_>, referrer: &Referrer, nets: &[&Net]) -> Result<Rows, SqlError> {
        let target = &group.target;
        let others = others(target, referrer);
        if others.is_empty() {
            return Ok(Rows { others: None });
        }
        let names: Vec<String> = others
            .iter()
            .map(|column| format!("d.{}", pgrx::spi::quote_identifier(&column.name)))
            .collect();
        let sql = statement::rows_of_keys(&target.relation(), &target.key_sql(), &names);
        let mut statement = Statement {
            plan: Plan::prepare(&sql)?,
            rows: RowType::new(&target.numbered_key()),
        };
        let found = statement.run(nets.iter().enumerate(), |(n, net)| by_key(group, n, net))?;
        Ok(Rows {
            others: found.returned,
        })
    }

    /// Runs a statement of [`prepare`] over the rows.
    fn run(
        &self,
        group: &Group<'_>,
        statement: &mut Statement,
        nets: &[&Net],
    ) -> Result<Executed, SqlError> {
        let Some(others) = &self.others else {
            return statement.run(nets.iter().enumerate(), |(n, net)| by_key(group, n, net));
        };
        let width = others.types().len();
        statement.run(0..others.len(), |i| {
            let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
            others.read(i, &mut values, &mut nulls);
            let n = values[0].value() as i32 as usize;
            let mut row = by_key(group, n, nets[n]);
            row.extend((1..width).map(|i| (!nulls[i]).then_some(values[i])));
            row
        })
    }
}

/// A number and the key.
fn by_key(group: &Group<'_>, n: usize, net: &Net) -> Vec<Option<Datum>> {
    let mut row = vec![Some(Datum::from(n as i32))];
    let key = group.target.key.iter();
    row.extend(key.map(|&i| Some(group.values[net.row + i])));
    row
}

fn prepare(target: &Target, referrer: &Referrer, sql: &str) -> Result<Statement, SqlError> {
    let mut row = target.numbered_key();
    row.extend(others(target, referrer).iter().map(|c| c.row()));
    Ok(Statement {
        plan: Plan::prepare(sql)?,
        rows: RowType::new(&row),
    })
}

/// `select` from rows of the destination, which `b` has the key and the [`others`] of, and for each the
/// first row `c` that refers to it.
fn referring(target: &Target, referrer: &Referrer, select: &str) -> String {
    let key = target.key_sql();
    let quote = |name: &str| pgrx::spi::quote_identifier(name);
    let list = |f: &dyn Fn(usize) -> String, join: &str, n: usize| {
        (0..n).map(f).collect::<Vec<_>>().join(join)
    };
    let mut definition = list(
        &|i| format!("{} {}", key[i].name, key[i].type_name),
        ", ",
        key.len(),
    );
    for column in others(target, referrer) {
        definition += &format!(", {} {}", quote(&column.name), column.type_name);
    }
    let same = |row: &str, of: &str| {
        list(
            &|i| format!("{row}.{0} {1} {of}.{0}", key[i].name, key[i].equals),
            " and ",
            key.len(),
        )
    };
    let refers = list(
        &|i| {
            let (column, to, operator) = &referrer.columns[i];
            format!("b.{} {operator} c.{}", quote(to), quote(column))
        },
        " and ",
        referrer.columns.len(),
    );
    // Of a table that refers to itself, rows that go together do not hold each other.
    let unless = if referrer.oid == target.destination.oid {
        format!(" and not exists (select from b o where {})", same("c", "o"))
    } else {
        String::new()
    };
    format!(
        "with b as materialized (select * from sequin.batch() b(sequin_n integer, {definition}))
         {select} from b cross join lateral
             (select c.* from {} c where {refers}{unless} limit 1) c",
        referrer.name,
    )
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
