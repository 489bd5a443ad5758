//! Members of records that a backfill cannot read, as the catalog has them: see [`crate::target::told`].

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::backfill::shapes::Shapes;
use crate::error::SqlError;
use crate::mapping::catalog::unreadable_members;
use crate::pg::invalidation;
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader};
use crate::target::Target;

const SELECT: &str = "
    select u.name, u.shapes from sequin_internal.batch() b(mapping integer) cross join lateral (
        select u.name, u.shapes from sequin.unreadable_member u where u.mapping = b.mapping offset 0) u";

const INSERT: &str = "
    insert into sequin.unreadable_member (mapping, name, shapes)
    select b.mapping, b.name, b.shapes
    from sequin_internal.batch() b(mapping integer, name text, shapes bigint)
    on conflict do nothing";

thread_local! {
    static READ: Kept = const { Kept::new(SELECT, &[("mapping", pg_sys::INT4OID)]) };
    static WRITE: Kept = const {
        Kept::new(
            INSERT,
            &[
                ("mapping", pg_sys::INT4OID),
                ("name", pg_sys::TEXTOID),
                ("shapes", pg_sys::INT8OID),
            ],
        )
    };
}

/// Reads what the catalog has of the mapping's members.
pub fn load(target: &mut Target, definer: pg_sys::Oid) -> Result<(), SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mapping = Some(Datum::from(target.mapping.id));
    let returned = READ.with(|statement| statement.query_of(vec![mapping]))?;
    let mut row = RowReader::new(&returned);
    while row.next() {
        if let (Some(name), Some(shapes)) = (row.text(0), row.bigint(1)) {
            target.told.restore(name, Shapes::of_number(shapes));
        }
    }
    target.told.loaded = true;
    Ok(())
}

/// Notes what values have told of members.
pub fn note(
    target: &Target,
    definer: pg_sys::Oid,
    news: &mut [(String, Shapes)],
) -> Result<(), SqlError> {
    if news.is_empty() {
        return Ok(());
    }
    // Calls that learn the same at the same time wait for each other in one order.
    news.sort_by(|a, b| a.0.cmp(&b.0));
    let _definer = ActingAs::new(definer, false);
    WRITE.with(|statement| {
        statement.execute(news.iter(), |(name, shapes)| {
            vec![
                Some(Datum::from(target.mapping.id)),
                name.as_str().into_datum(),
                Some(Datum::from(shapes.number())),
            ]
        })
    })?;
    // Other sessions read it anew; so does this one if the transaction is rolled back.
    invalidation::announce(unreadable_members());
    Ok(())
}
