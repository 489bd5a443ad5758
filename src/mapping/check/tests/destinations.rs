//! Which relations can be destinations.

#![forbid(unsafe_code)]

use super::*;

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
fn a_null_destination_has_no_columns() {
    let ignored = Mapping {
        destination: None,
        ..key(&["id"])
    };
    let faults = check(&ignored, None);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].message, "a null destination cannot have key");
}
