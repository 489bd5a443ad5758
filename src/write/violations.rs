//! Which units violate a foreign key, found by one query, and the error that each of them raises when it is written
//! alone.
//!
//! The server names one row of a statement that fails for a foreign key. To write each unit alone, to learn its error,
//! takes half a millisecond for each; the query takes some microseconds.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;
use pgrx::spi::quote_identifier;

use super::cascade;
use super::constraint::{ForeignKey, referrer};
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::{NetChange, Unit};
use crate::error::SqlError;
use crate::error::report::cut;
use crate::pg::spi::Returned;
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::RowColumn;
use crate::pg::user::ActingAs;
use crate::prepared::{Recent, RowReader};
use crate::statement::{SqlColumn, numbered_batch};

/// The units that violate a foreign key when they are written alone.
pub struct Violations {
    /// The columns in DETAIL, with what stands around their values: `(a, b)=(`.
    columns: String,
    /// The values of these columns, of each unit that violates the foreign key.
    pub values: Vec<Option<String>>,
}

/// The units among these that violate the foreign key which raised the error, each written alone: a unit writes a row
/// whose parent does not exist, or deletes a row that another row still refers to. `None` if that cannot be found out.
/// Where the table refers to itself, `deletes` says which of the two is asked.
pub fn find(
    changes: &Changes<'_>,
    error: &SqlError,
    units: &[&Unit],
    deletes: bool,
) -> Result<Option<Violations>, SqlError> {
    let Some(key) = ForeignKey::of(error) else {
        return Ok(None);
    };
    let destination = changes.target.destination.oid;
    let found = subtransaction(|| match key.child == destination {
        true if !deletes || key.parent != destination => orphans(changes, &key, units),
        _ => held(changes, &key, error, units),
    });
    match found {
        Ok(found) => Ok(found.filter(|found| found.values.iter().any(Option::is_some))),
        // The owner may lack a privilege for the query.
        Err(error) => forgive(error, &changes.target.mapping).map(|()| None),
    }
}

impl Violations {
    fn new(
        columns: &[String],
        returned: &Returned,
        number: impl Fn(usize) -> usize,
        units: usize,
    ) -> Violations {
        let mut values = vec![None; units];
        let mut row = RowReader::new(returned);
        while row.next() {
            values[number(row.index(0))] = row.text(1);
        }
        Violations {
            columns: format!("({})=(", columns.join(", ")),
            values,
        }
    }

    /// The errors of the units that violate the foreign key, made of the error of one of these units. `None` if it is
    /// not the error of one of these; `is_of_one`: it is.
    pub fn errors(&self, of_one: &SqlError, is_of_one: bool) -> Option<Vec<Option<SqlError>>> {
        let words = |values: &String| format!("{}{values})", self.columns);
        let detail = of_one.detail.as_deref().unwrap_or_default();
        let its = self.values.iter().flatten().map(words);
        let its = its
            .filter(|its| detail.contains(its))
            .max_by_key(String::len);
        // Who may not see the values gets a DETAIL without them.
        if its.is_none() && (!is_of_one || detail.contains(&self.columns)) {
            return None;
        }
        let error = |values: &String| SqlError {
            detail: match &its {
                Some(its) => Some(cut(&detail.replacen(its, &words(values), 1))),
                None => of_one.detail.clone(),
            },
            ..of_one.clone()
        };
        let values = self.values.iter();
        Some(values.map(|values| values.as_ref().map(error)).collect())
    }
}

/// The units with a row that refers to a missing row.
fn orphans(
    changes: &Changes<'_>,
    key: &ForeignKey,
    units: &[&Unit],
) -> Result<Option<Violations>, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let columns: Option<Vec<usize>> = key.of.iter().map(|c| target.column_number(c)).collect();
    let Some(mut columns) = columns else {
        return Ok(None);
    };
    let name = |of: &String| format!("b.{}", quote_identifier(of));
    let (mut there, mut itself, mut given) = (Vec::new(), Vec::new(), Vec::new());
    for ((of, to), (type_name, equality)) in key
        .of
        .iter()
        .zip(&key.to)
        .zip(key.types.iter().zip(&key.equalities))
    {
        let (of, to) = (name(of), quote_identifier(to));
        let cast = format!("{of}::{type_name}");
        there.push(equality.sql(&format!("p.{to}"), &cast));
        itself.push(equality.sql(&format!("b.{to}"), &cast));
        given.push(format!("{of} is not null"));
    }
    let mut unless = String::new();
    if key.parent == key.child {
        let to: Option<Vec<usize>> = key.to.iter().map(|c| target.column_number(c)).collect();
        if let Some(to) = to {
            columns.extend(to);
            unless = format!(" and ({}) is not true", itself.join(" and "));
        }
    }
    columns.sort_unstable();
    columns.dedup();
    let spelled: Vec<&SqlColumn> = columns.iter().map(|&i| &target.columns[i].sql).collect();
    let (n, batch) = numbered_batch(&spelled);
    let declared: Vec<String> = key.declared.iter().map(name).collect();
    let (declared, given, there) = (
        declared.join(", "),
        given.join(" and "),
        there.join(" and "),
    );
    let name = &key.name;
    let (parents, missing) = match target.destination.shards {
        None => (
            String::new(),
            format!("not exists (select from {name} p where {there})"),
        ),
        Some(_) => (
            format!(" left join {name} p on {there}"),
            format!("p.{} is null", quote_identifier(&key.to[0])),
        ),
    };
    let sql = format!(
        "select b.{n}, pg_catalog.concat_ws(', ', {declared}) from {batch}{parents} \
         where {given}{unless} and {missing}"
    );
    let mut row = vec![RowColumn::number(&n)];
    row.extend(columns.iter().map(|&i| target.columns[i].row.clone()));
    // The server's own checks of foreign keys run as this role.
    let _owner = ActingAs::untrusted(key.parent_owner);
    let mut statement = Recent::new(sql, &row)?;
    let nets = single(units).filter(|(_, net)| net.columns().is_some());
    let returned = statement.query(nets, |(n, net)| {
        let value = |&i: &usize| values.get(net.row, i).filter(|_| net.has(i));
        let mut row = vec![Some(Datum::from(n as i32))];
        row.extend(columns.iter().map(value));
        row
    })?;
    let found = Violations::new(&key.declared, &returned, |n| n, units.len());
    Ok(Some(found))
}

/// The units that delete a row to which another row still refers.
fn held(
    changes: &Changes<'_>,
    key: &ForeignKey,
    error: &SqlError,
    units: &[&Unit],
) -> Result<Option<Violations>, SqlError> {
    let target = &changes.target;
    let Some(referrer) = referrer(target, key.child, error.constraint.as_deref()) else {
        return Ok(None);
    };
    let deletes =
        |(_, net): &(usize, &NetChange)| net.columns().is_none() && !changes.is_marked(net);
    let (numbers, nets): (Vec<usize>, Vec<&NetChange>) = single(units).filter(deletes).unzip();
    let returned = cascade::referred(target, &changes.nets.values, referrer, &nets)?;
    let to: Vec<String> = referrer
        .columns
        .iter()
        .map(|(_, to, _)| to.clone())
        .collect();
    Ok(Some(Violations::new(
        &to,
        &returned,
        |n| numbers[n],
        units.len(),
    )))
}

/// The net changes of units that have one, by number.
fn single<'u>(units: &[&'u Unit]) -> impl Iterator<Item = (usize, &'u NetChange)> {
    let units = units.iter().enumerate();
    units
        .filter(|(_, unit)| unit.nets().count() == 1)
        .map(|(n, unit)| (n, unit.first()))
}
