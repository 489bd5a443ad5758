//! Keys and the unique indexes that they need.

#![forbid(unsafe_code)]

use super::*;

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
fn an_index_is_on_all_columns_of_the_key_and_no_other() {
    let mut destination = products();
    destination
        .unique_indexes
        .push(index("u", &["name", "price"]));
    for columns in [&["id", "name"][..], &["price", "id"], &["name"]] {
        let fault = one(&key(columns), &destination);
        assert_eq!(fault.code, sqlstate::INVALID_COLUMN_REFERENCE);
    }
}

#[test]
fn a_key_column_that_does_not_exist_is_the_only_fault() {
    for columns in [&["nam", "price"][..], &["price", "nam"]] {
        let fault = one(&key(columns), &products());
        assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    }
}

#[test]
fn key_columns_are_the_messages_own() {
    let mut destination = products();
    destination.columns[1].generated = true;
    destination.unique_indexes.push(index("u", &["name"]));
    let fault = one(&key(&["name"]), &destination);
    assert!(
        fault
            .message
            .ends_with("\"name\" of public.products is generated")
    );
    // that a generated column is named is another fault, told once
    let named = Mapping {
        key: Some(vec!["name".into()]),
        ..columns(r#"{"name": "record.name", "*": "record.*"}"#)
    };
    assert_eq!(one(&named, &destination).code, sqlstate::GENERATED_ALWAYS);

    let mut destination = products();
    destination.columns.push(column("gone", 16));
    destination.unique_indexes.push(index("u", &["gone"]));
    let marked = Mapping {
        on_delete: OnDelete::Soft,
        soft_delete: Some("gone".into()),
        ..key(&["gone"])
    };
    let fault = one(&marked, &destination);
    assert!(
        fault
            .message
            .ends_with("\"gone\" of public.products is not the message's")
    );
}

#[test]
fn only_keys_whose_columns_have_a_source_are_offered() {
    let mut combined = products();
    combined.columns[0].has_default = true;
    combined.unique_indexes.push(index("u", &["name", "id"]));
    let fan_in = columns(r#"{"name": "record.id", "price": "record"}"#);
    let fault = one(&fan_in, &combined);
    assert_eq!(
        hint(&fault),
        "Add it to columns, as in \"id\": \"record.id\"."
    );
}

#[test]
fn the_likely_key_is_the_column_of_the_sources_id() {
    let mut bare = Destination {
        unique_indexes: vec![],
        ..products()
    };
    bare.columns[0].has_default = true;
    let moved = columns(r#"{"name": "record.price", "price": "record.id"}"#);
    let fault = one(&moved, &bare);
    assert!(hint(&fault).starts_with("Run: ALTER TABLE public.products ADD PRIMARY KEY (price);"));
    let none = columns(r#"{"name": "record.name"}"#);
    let fault = one(&none, &bare);
    assert!(hint(&fault).starts_with("Run: ALTER TABLE public.products ADD PRIMARY KEY (…);"));
}

#[test]
fn a_primary_key_is_proposed_where_no_column_may_be_null() {
    let bare = Destination {
        unique_indexes: vec![],
        ..products()
    };
    assert_eq!(
        hint(&one(&key(&["id", "name"]), &bare)),
        "Run: ALTER TABLE public.products ADD CONSTRAINT products_id_name_key UNIQUE (id, name);"
    );
}

#[test]
fn only_an_index_that_would_do_is_built_anew() {
    let base = index("products_name_key", &["name"]);
    for (valid, partial, immediate) in [
        (true, true, true),
        (false, true, true),
        (false, false, false),
        (true, false, false),
    ] {
        let mut destination = products();
        destination.unique_indexes.push(UniqueIndex {
            valid,
            partial,
            immediate,
            ..base.clone()
        });
        let fault = one(&key(&["name"]), &destination);
        assert!(hint(&fault).contains("ADD CONSTRAINT"), "{fault:?}");
    }
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
fn a_log_recognises_repeats_by_the_primary_key_that_its_messages_bring() {
    let mut destination = products();
    destination.unique_indexes[0].immediate = false;
    let log = Mapping {
        mode: Mode::Append,
        ..mapping()
    };
    let fault = one(&log, &destination);
    assert_eq!(fault.code, sqlstate::INVALID_COLUMN_REFERENCE);
    // a number that the table gives is no mark of the message
    destination.columns[0].has_default = true;
    destination.unique_indexes[0].columns = vec!["id".into(), "name".into()];
    let numbered = Mapping {
        mode: Mode::Append,
        ..columns(r#"{"name": "record.name"}"#)
    };
    fine(&numbered, &destination);
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
