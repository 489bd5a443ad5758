//! Each fault alone, and several at once.

#![forbid(unsafe_code)]

mod changed;
mod columns;
mod destinations;
mod keys;
mod rivals;
mod shared;
mod versions;

use pgrx::pg_sys;

use super::*;
use crate::destination::links::Links;
use crate::destination::{Column, UniqueIndex};
use crate::mapping::check::fit::SOFT_DELETE_TYPES;
use crate::mapping::versions::guard;
use crate::mapping::{ColumnSpecs, GUARD_COLUMNS, Guard, MappingRow};

fn column(name: &str, type_oid: u32) -> Column {
    Column {
        name: name.into(),
        type_oid: pg_sys::Oid::from(type_oid),
        typmod: -1,
        collation: pg_sys::Oid::from(0),
        type_name: match type_oid {
            16 => "boolean",
            20 => "bigint",
            23 => "integer",
            25 => "text",
            1184 => "timestamp with time zone",
            _ => "other",
        }
        .into(),
        collate: String::new(),
        not_null: false,
        has_default: false,
        generated: false,
        identity: None,
    }
}

fn index(name: &str, columns: &[&str]) -> UniqueIndex {
    UniqueIndex {
        oid: pg_sys::InvalidOid,
        name: name.into(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        primary: false,
        immediate: true,
        partial: false,
        valid: true,
    }
}

/// `create table public.products (id integer primary key, name text, price text)`
fn products() -> Destination {
    let id = Column {
        not_null: true,
        ..column("id", 23)
    };
    Destination {
        oid: pg_sys::Oid::from(1),
        owner: pg_sys::Oid::from(10),
        schema: "public".into(),
        name: "products".into(),
        relkind: b'r',
        persistence: b'p',
        columns: vec![id, column("name", 25), column("price", 25)],
        unique_indexes: vec![UniqueIndex {
            primary: true,
            ..index("products_pkey", &["id"])
        }],
        is_heap: true,
        has_children: false,
        rules: false,
        row_security: false,
        links: Links::default(),
        shards: None,
    }
}

fn mapping() -> Mapping {
    MappingRow {
        source: "public.products".into(),
        guard: "table".into(),
        ..MappingRow::example()
    }
    .parse()
    .unwrap()
}

fn columns(json: &str) -> Mapping {
    Mapping {
        columns: ColumnSpecs::parse(json).unwrap(),
        ..mapping()
    }
}

fn key(columns: &[&str]) -> Mapping {
    Mapping {
        key: Some(columns.iter().map(|c| (*c).to_owned()).collect()),
        ..mapping()
    }
}

#[track_caller]
fn one(mapping: &Mapping, destination: &Destination) -> Fault {
    let mut faults = check(mapping, Some(destination));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[track_caller]
fn fine(mapping: &Mapping, destination: &Destination) {
    let faults = check(mapping, Some(destination));
    assert!(faults.is_empty(), "{faults:#?}");
}

fn hint(fault: &Fault) -> &str {
    fault.hint.as_deref().unwrap()
}

#[test]
fn what_fits_has_no_fault() {
    fine(&mapping(), &products());
    fine(
        &columns(r#"{"id": "record.id", "name": "record"}"#),
        &products(),
    );
    fine(&key(&["id"]), &products());
    assert!(
        check(
            &Mapping {
                destination: None,
                ..mapping()
            },
            None
        )
        .is_empty()
    );
}

#[test]
fn everything_is_found_at_once() {
    let mapping = Mapping {
        on_delete: OnDelete::Soft,
        guard: Guard::Columns,
        key: Some(vec!["price".into()]),
        ..columns(r#"{"nmae": "record.name"}"#)
    };
    let faults = check(&mapping, Some(&products()));
    let codes: Vec<_> = faults.iter().map(|f| f.code).collect();
    assert_eq!(
        codes,
        [
            sqlstate::INVALID_PARAMETER_VALUE,
            sqlstate::UNDEFINED_COLUMN,
            sqlstate::INVALID_COLUMN_REFERENCE,
            sqlstate::INVALID_COLUMN_REFERENCE,
            sqlstate::UNDEFINED_COLUMN,
            sqlstate::NOT_NULL_VIOLATION,
        ],
        "{faults:#?}"
    );
}
