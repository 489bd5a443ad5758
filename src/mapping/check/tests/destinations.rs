//! Which relations can be destinations.

#![forbid(unsafe_code)]

use super::*;

#[test]
fn destinations_are_tables() {
    for (relkind, what) in [
        (b'v', "a view"),
        (b'm', "a materialized view"),
        (b'S', "a sequence"),
        (b'i', "an index"),
        (b'I', "an index"),
        (b'c', "a composite type"),
        (b't', "something else"),
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
    let keyed = Mapping {
        mode: Mode::Append,
        ..key(&["id"])
    };
    let fault = one(&keyed, &foreign);
    assert_eq!(
        fault.message,
        "mode 'append' cannot use a key with foreign table public.products"
    );
    assert!(hint(&fault).starts_with("Leave the key out"));
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
    for (schema, whose) in [
        ("sequin", "pg_sequin's own"),
        ("sequin_internal", "pg_sequin's own"),
        ("pg_catalog", "a system catalog"),
        ("pg_toast", "a system catalog"),
        ("information_schema", "a system catalog"),
    ] {
        let fault = one(
            &mapping(),
            &Destination {
                schema: schema.into(),
                ..products()
            },
        );
        assert_eq!(fault.code, sqlstate::WRONG_OBJECT_TYPE);
        assert!(fault.message.ends_with(&format!(" is {whose}")));
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
    for specs in [
        r#"{"a": "record.a", "*": "record.*"}"#,
        r#"{"a": "record.a"}"#,
    ] {
        let ignored = Mapping {
            destination: None,
            ..columns(specs)
        };
        let faults = check(&ignored, None);
        assert_eq!(faults.len(), 1);
        let message = &faults[0].message;
        assert_eq!(message, "a null destination cannot have columns");
    }
    let ignored = Mapping {
        destination: None,
        ..mapping()
    };
    assert!(check(&ignored, None).is_empty());
}
