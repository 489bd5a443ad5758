//! Columns that a mapping names, needs or leaves out.

#![forbid(unsafe_code)]

use super::*;

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
    let fault = one(&soft(Some("deleted")), &with(column("delete", 16)));
    assert_eq!(
        hint(&fault),
        "Did you mean \"delete\"? If not, run: ALTER TABLE public.products \
         ADD COLUMN deleted timestamp with time zone;"
    );
    assert_eq!(
        one(&soft(Some("name")), &products()).code,
        sqlstate::DATATYPE_MISMATCH
    );
    let generated = Column {
        generated: true,
        ..column("gone", 16)
    };
    let fault = one(&soft(Some("gone")), &with(generated));
    assert_eq!(fault.code, sqlstate::GENERATED_ALWAYS);
    assert!(
        fault
            .message
            .ends_with("\"gone\" of public.products is generated")
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
