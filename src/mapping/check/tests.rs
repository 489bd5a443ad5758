//! Each fault alone, and several at once.

use pgrx::pg_sys;

use super::*;
use crate::destination::{Column, UniqueIndex};
use crate::mapping::check::fit::SOFT_DELETE_TYPES;
use crate::mapping::{ColumnSpecs, MappingRow};

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
        not_null: false,
        has_default: false,
        generated: false,
        identity: None,
    }
}

fn index(name: &str, columns: &[&str]) -> UniqueIndex {
    UniqueIndex {
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
        schema: "public".into(),
        name: "products".into(),
        relkind: b'r',
        persistence: b'p',
        columns: vec![id, column("name", 25), column("price", 25)],
        unique_indexes: vec![UniqueIndex {
            primary: true,
            ..index("products_pkey", &["id"])
        }],
        deferred: false,
        deferred_triggers: false,
        checks_sets: false,
        after_triggers: false,
        refers_to: vec![],
        self_references: vec![],
        referrers: vec![],
    }
}

fn mapping() -> Mapping {
    MappingRow {
        id: 1,
        name: "m".into(),
        source: "public.products".into(),
        destination: Some(1),
        columns: None,
        key: None,
        filter: None,
        mode: "upsert".into(),
        on_delete: "delete".into(),
        soft_delete: None,
        on_error: "dead_letter".into(),
        guard: "table".into(),
        enabled: true,
        owner: 10,
        search_path: "public".into(),
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
fn destinations_are_tables() {
    for (relkind, what) in [
        (b'v', "a view"),
        (b'm', "a materialized view"),
        (b'S', "a sequence"),
    ] {
        let fault = one(
            &mapping(),
            &Destination {
                relkind,
                ..products()
            },
        );
        assert_eq!(fault.code, sqlstate::WRONG_OBJECT_TYPE);
        assert!(fault.detail.clone().unwrap().contains(what));
    }
    fine(
        &mapping(),
        &Destination {
            relkind: b'p',
            ..products()
        },
    );
    let append = Mapping {
        mode: Mode::Append,
        ..mapping()
    };
    let foreign = Destination {
        relkind: b'f',
        unique_indexes: vec![],
        ..products()
    };
    fine(&append, &foreign);
    assert!(one(&mapping(), &foreign).message.contains("foreign table"));
    assert!(
        one(
            &mapping(),
            &Destination {
                persistence: b't',
                ..products()
            }
        )
        .message
        .ends_with("is a temporary table")
    );
    for schema in ["sequin", "pg_catalog", "information_schema"] {
        let fault = one(
            &mapping(),
            &Destination {
                schema: schema.into(),
                ..products()
            },
        );
        assert_eq!(fault.code, sqlstate::WRONG_OBJECT_TYPE);
    }
}

#[test]
fn a_destination_that_is_gone() {
    let faults = check(&mapping(), None);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].code, sqlstate::UNDEFINED_TABLE);
}

#[test]
fn unknown_columns_are_answered_with_the_nearest() {
    let fault = one(
        &columns(r#"{"id": "record.id", "prise": "record.price"}"#),
        &products(),
    );
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    assert_eq!(
        fault.message,
        "column \"prise\" of public.products does not exist"
    );
    assert_eq!(hint(&fault), "Did you mean \"price\"?");
    let fault = one(
        &columns(r#"{"id": "record.id", "zzzz": "record.price"}"#),
        &products(),
    );
    assert_eq!(
        hint(&fault),
        "The columns of public.products are id, name and price."
    );
}

#[test]
fn generated_columns_are_not_written() {
    let mut destination = products();
    destination.columns.push(Column {
        generated: true,
        ..column("search", 25)
    });
    fine(&mapping(), &destination);
    let fault = one(
        &columns(r#"{"search": "record.x", "*": "record.*"}"#),
        &destination,
    );
    assert_eq!(fault.code, sqlstate::GENERATED_ALWAYS);
}

#[test]
fn keys_need_a_unique_index() {
    let fault = one(&key(&["name"]), &products());
    assert_eq!(fault.code, sqlstate::INVALID_COLUMN_REFERENCE);
    assert_eq!(
        hint(&fault),
        "Run: ALTER TABLE public.products ADD CONSTRAINT products_name_key UNIQUE (name);"
    );
    let mut destination = products();
    destination
        .unique_indexes
        .push(index("u", &["name", "price"]));
    fine(&key(&["price", "name"]), &destination);
    assert_eq!(check(&key(&["price"]), Some(&destination)).len(), 1);
}

#[test]
fn indexes_that_do_not_count_are_told_why() {
    let with = |index: UniqueIndex| {
        let mut destination = products();
        destination.unique_indexes.push(index);
        destination
    };
    let base = || index("products_name_key", &["name"]);
    fine(&key(&["name"]), &with(base()));
    let detail = |index| one(&key(&["name"]), &with(index)).detail.clone().unwrap();
    assert!(
        detail(UniqueIndex {
            partial: true,
            ..base()
        })
        .contains("is partial")
    );
    assert!(
        detail(UniqueIndex {
            immediate: false,
            ..base()
        })
        .contains("is deferrable")
    );
    assert!(
        detail(UniqueIndex {
            valid: false,
            ..base()
        })
        .contains("is not valid")
    );
    let fault = one(
        &key(&["name"]),
        &with(UniqueIndex {
            immediate: false,
            ..base()
        }),
    );
    assert!(hint(&fault).contains("ADD CONSTRAINT products_name_key1 UNIQUE (name)"));
    let fault = one(
        &key(&["name"]),
        &with(UniqueIndex {
            valid: false,
            ..base()
        }),
    );
    assert_eq!(hint(&fault), "Run: REINDEX INDEX public.products_name_key;");
}

#[test]
fn a_table_without_keys_is_given_a_primary_key() {
    let bare = Destination {
        unique_indexes: vec![],
        ..products()
    };
    let fault = one(&mapping(), &bare);
    assert_eq!(fault.code, sqlstate::INVALID_COLUMN_REFERENCE);
    assert!(hint(&fault).starts_with("Run: ALTER TABLE public.products ADD PRIMARY KEY (id);"));
    let fault = one(&key(&["id"]), &bare);
    assert_eq!(
        hint(&fault),
        "Run: ALTER TABLE public.products ADD PRIMARY KEY (id);"
    );
    fine(
        &Mapping {
            mode: Mode::Append,
            ..mapping()
        },
        &bare,
    );
    let unique = Destination {
        unique_indexes: vec![index("u", &["name"])],
        ..products()
    };
    assert_eq!(hint(&one(&mapping(), &unique)), "Use key => '{name}'.");
}

#[test]
fn a_deferrable_primary_key_does_not_count() {
    let mut destination = products();
    destination.unique_indexes[0].immediate = false;
    let fault = one(&mapping(), &destination);
    assert!(
        fault
            .detail
            .as_deref()
            .unwrap()
            .contains("\"products_pkey\"")
    );
    assert!(hint(&fault).contains("ADD CONSTRAINT products_id_key UNIQUE (id)"));
}

#[test]
fn key_columns_exist_and_have_a_source() {
    let fault = one(&key(&["nam"]), &products());
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    assert_eq!(hint(&fault), "Did you mean \"name\"?");
    // The guide's third pattern without its key: the primary key is a serial, users_id is unique.
    let mut combined = products();
    combined.columns[0].has_default = true;
    combined
        .unique_indexes
        .push(index("users_unique", &["name"]));
    let fan_in = columns(r#"{"name": "record.id", "price": "record"}"#);
    let fault = one(&fan_in, &combined);
    assert_eq!(
        fault.message,
        "key column \"id\" of public.products has no source"
    );
    assert_eq!(
        hint(&fault),
        "Use key => '{name}', or add it to columns, as in \"id\": \"record.id\"."
    );
    fine(
        &Mapping {
            key: Some(vec!["name".into()]),
            ..fan_in
        },
        &combined,
    );
}

#[test]
fn soft_delete_needs_both_and_a_column_of_three_types() {
    let soft = |column: Option<&str>| Mapping {
        on_delete: OnDelete::Soft,
        soft_delete: column.map(str::to_owned),
        ..mapping()
    };
    let with = |column: Column| {
        let mut destination = products();
        destination.columns.push(column);
        destination
    };
    assert!(
        one(&soft(None), &products())
            .message
            .contains("needs a soft_delete column")
    );
    let alone = Mapping {
        soft_delete: Some("price".into()),
        ..mapping()
    };
    assert!(
        one(&alone, &products())
            .message
            .contains("on_delete is not 'soft'")
    );
    let fault = one(&soft(Some("gone")), &products());
    assert_eq!(
        hint(&fault),
        "Run: ALTER TABLE public.products ADD COLUMN gone timestamp with time zone;"
    );
    assert_eq!(
        one(&soft(Some("name")), &products()).code,
        sqlstate::DATATYPE_MISMATCH
    );
    for type_oid in SOFT_DELETE_TYPES {
        fine(&soft(Some("gone")), &with(column("gone", type_oid)));
    }
    fine(
        &soft(Some("gone")),
        &with(Column {
            not_null: true,
            ..column("gone", 16)
        }),
    );
    let strict = with(Column {
        not_null: true,
        ..column("gone", 1184)
    });
    assert!(
        one(&soft(Some("gone")), &strict)
            .message
            .contains("may not be null")
    );
    let append = Mapping {
        mode: Mode::Append,
        ..soft(Some("gone"))
    };
    assert!(
        one(&append, &with(column("gone", 16)))
            .message
            .contains("'append'")
    );
    let twice = Mapping {
        columns: ColumnSpecs::parse(r#"{"gone": "record.gone", "*": "record.*"}"#).unwrap(),
        ..soft(Some("gone"))
    };
    assert!(
        one(&twice, &with(column("gone", 16)))
            .message
            .contains("is the soft_delete column")
    );
}

#[test]
fn columns_that_stay_null_must_be_allowed_to() {
    let mut destination = products();
    destination.columns[1].not_null = true;
    let narrow = columns(r#"{"id": "record.id"}"#);
    let fault = one(&narrow, &destination);
    assert_eq!(fault.code, sqlstate::NOT_NULL_VIOLATION);
    assert!(hint(&fault).contains("\"name\": \"record.name\""));
    fine(&mapping(), &destination);
    destination.columns[1].has_default = true;
    fine(&narrow, &destination);
}

#[test]
fn guard_columns_are_the_guards() {
    let columns_guard = Mapping {
        guard: Guard::Columns,
        ..mapping()
    };
    let fault = one(&columns_guard, &products());
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    assert!(hint(&fault).starts_with(
        "Run: ALTER TABLE public.products ADD COLUMN sequin_lsn bigint, ADD COLUMN sequin_idx \
         integer, ADD COLUMN sequin_committed_at timestamp with time zone;"
    ));
    let mut destination = products();
    destination
        .columns
        .extend(GUARD_COLUMNS.map(|(name, type_oid, _)| column(name, type_oid)));
    fine(&columns_guard, &destination);
    assert_eq!(
        guard(
            &Mapping {
                guard: Guard::Auto,
                ..mapping()
            },
            &destination
        ),
        Guard::Columns
    );
    assert_eq!(
        guard(
            &Mapping {
                guard: Guard::Auto,
                ..mapping()
            },
            &products()
        ),
        Guard::Table
    );

    let named = r#"{"sequin_lsn": "metadata.commit_lsn", "*": "record.*"}"#;
    let named = Mapping {
        guard: Guard::Auto,
        ..columns(named)
    };
    assert!(one(&named, &destination).message.contains("is the guard's"));
    fine(
        &Mapping {
            guard: Guard::Off,
            ..named
        },
        &destination,
    );

    destination.columns[3].type_oid = pg_sys::Oid::from(23);
    assert_eq!(
        one(&columns_guard, &destination).code,
        sqlstate::DATATYPE_MISMATCH
    );
    assert_eq!(
        guard(
            &Mapping {
                guard: Guard::Auto,
                ..mapping()
            },
            &destination
        ),
        Guard::Table
    );
}

#[test]
fn a_null_destination_has_no_columns() {
    let ignored = Mapping {
        destination: None,
        ..key(&["id"])
    };
    let faults = check(&ignored, None);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].message, "a null destination cannot have key");
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

#[test]
fn constraint_names_fit() {
    let name = "é".repeat(40);
    let mut destination = Destination {
        unique_indexes: vec![],
        name,
        ..products()
    };
    destination.columns[1].not_null = false;
    let fault = one(&key(&["name"]), &destination);
    let constraint = hint(&fault).split("CONSTRAINT \"").nth(1).unwrap();
    assert!(constraint.split('"').next().unwrap().len() <= 63);
}
