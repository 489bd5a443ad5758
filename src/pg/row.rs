//! Rows of a trigger. pgrx's heap tuples cannot read the exact text of a jsonb (its `JsonB` rounds numbers),
//! and cannot read or write columns of OID alias types such as `regrole`.

use std::ffi::CStr;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::{self, Datum};
use pgrx::{
    AllocatedByPostgres, AllocatedByRust, FromDatum, IntoDatum, PgTrigger, PgTupleDesc,
    direct_function_call,
};

use super::raise::raise;
use crate::error::Error;

/// A row that a trigger was called for, split into columns.
pub struct Row {
    columns: Vec<(String, pg_sys::Oid, Option<Datum>)>,
}

impl Row {
    /// The new row. `None` for a delete and for a statement-level trigger.
    pub fn new(trigger: &PgTrigger<'_>) -> Option<Row> {
        Some(Row::of(trigger, trigger.new()?))
    }

    /// The old row. `None` for an insert and for a statement-level trigger.
    pub fn old(trigger: &PgTrigger<'_>) -> Option<Row> {
        Some(Row::of(trigger, trigger.old()?))
    }

    fn of(trigger: &PgTrigger<'_>, row: PgHeapTuple<'_, AllocatedByPostgres>) -> Row {
        // SAFETY: the trigger's tuple has the row type of the trigger's relation. Both arrays have the
        // descriptor's width.
        unsafe {
            let raw = (*trigger.trigger_data().tg_relation).rd_att;
            let desc = PgTupleDesc::from_pg_unchecked(raw);
            let mut values = vec![Datum::from(0); desc.len()];
            let mut nulls = vec![true; desc.len()];
            let (to_values, to_nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::heap_deform_tuple(row.into_pg(), raw, to_values, to_nulls);
            let columns = desc
                .iter()
                .zip(values)
                .zip(nulls)
                .map(|((attribute, value), null)| {
                    (
                        attribute.name().to_owned(),
                        attribute.atttypid,
                        (!null).then_some(value),
                    )
                });
            Row {
                columns: columns.collect(),
            }
        }
    }

    fn column(&self, name: &str) -> (pg_sys::Oid, Option<Datum>) {
        let column = self.columns.iter().find(|(column, ..)| column == name);
        column
            .map(|(_, type_oid, value)| (*type_oid, *value))
            .unwrap_or_else(|| raise(Error::NotOfMapping))
    }

    /// The value of a column; `None` for null.
    pub fn get<T: FromDatum + IntoDatum>(&self, name: &str) -> Option<T> {
        let (type_oid, value) = self.column(name);
        if !T::is_compatible_with(type_oid) {
            raise(Error::NotOfMapping);
        }
        // SAFETY: the value is not null, and its type was checked against the Rust type.
        unsafe { T::from_datum(value?, false) }
    }

    /// The value of a column whose type is `oid` or an alias of it; `None` for null.
    pub fn oid(&self, name: &str) -> Option<pg_sys::Oid> {
        let (type_oid, value) = self.column(name);
        if !is_oid(type_oid) {
            raise(Error::NotOfMapping);
        }
        // SAFETY: these types are OIDs by value.
        unsafe { pg_sys::Oid::from_datum(value?, false) }
    }

    /// The text of a jsonb column; `None` for null.
    pub fn jsonb(&self, name: &str) -> Option<String> {
        let (type_oid, value) = self.column(name);
        if type_oid != pg_sys::JSONBOID {
            raise(Error::NotOfMapping);
        }
        // SAFETY: the datum is a jsonb, and jsonb_out returns a string.
        let text = unsafe { direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(value?)]) };
        text.map(|text| text.to_string_lossy().into_owned())
    }
}

/// Sets a column whose type is `oid` or an alias of it.
pub fn set_oid(row: &mut PgHeapTuple<'_, AllocatedByRust>, column: &str, oid: pg_sys::Oid) {
    let (number, attribute) = row
        .get_attribute_by_name(column)
        .unwrap_or_else(|| raise(Error::NotOfMapping));
    if !is_oid(attribute.atttypid) {
        raise(Error::NotOfMapping);
    }
    // SAFETY: these types are OIDs by value.
    unsafe { row.set_by_index_unchecked(number, oid.into_datum()) }
}

fn is_oid(type_oid: pg_sys::Oid) -> bool {
    [pg_sys::OIDOID, pg_sys::REGCLASSOID, pg_sys::REGROLEOID].contains(&type_oid)
}
