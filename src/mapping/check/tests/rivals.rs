//! Mappings that write the same columns: which rows may come by both, and what is said of them.

#![forbid(unsafe_code)]

use super::shared::{apart, from, names, pair, specs, versioned};
use super::*;

fn other(source: &str) -> Mapping {
    Mapping {
        id: 2,
        name: "other".into(),
        ..from(source)
    }
}

fn filtered(mapping: &Mapping, filter: &str) -> Mapping {
    Mapping {
        filter: Some(filter.into()),
        ..mapping.clone()
    }
}

fn under(mapping: &Mapping, guard: Guard) -> Mapping {
    Mapping {
        guard,
        ..mapping.clone()
    }
}

fn with(mapping: &Mapping, json: &str) -> Mapping {
    Mapping {
        columns: specs(json),
        ..mapping.clone()
    }
}

fn shared(a: &Mapping, b: &Mapping) -> Shared {
    Shared::of(a, &products(), std::slice::from_ref(b))
}

const NARROW: &str = r#"{"id": "record.id", "name": "record.name"}"#;

#[test]
fn filters_let_other_rows_in_unless_both_mappings_take_a_message() {
    for (one, two, are_apart) in [
        ("public.products", "public.products", false),
        ("public.*", "public.*", false),
        ("public.products", "eu.public.products", false),
        ("public.products", "public.orders", true),
        ("public.products", "public.*", true),
        ("public.p*", "public.*", true),
    ] {
        for (one, two) in [(one, two), (two, one)] {
            let (a, b) = (filtered(&from(one), "x"), filtered(&other(two), "y"));
            let found = shared(&a, &b);
            assert_eq!(found.rivals.is_empty(), are_apart, "{one} {two}");
            assert_eq!(found.peers.len(), 1, "{one} {two}");
        }
    }
}

#[test]
fn the_first_of_several_rivals_is_named() {
    let third = Mapping {
        id: 3,
        name: "third".into(),
        ..from("public.orders")
    };
    let told = may_meet(&mapping(), &products(), &[other("public.*"), third]).unwrap();
    assert!(told.message.starts_with("mapping \"other\" writes"));
}

#[test]
fn a_delete_under_guard_columns_may_remove_a_row_that_another_filter_let_in() {
    let (a, b) = pair();
    let (a, b) = (filtered(&a, "x"), filtered(&b, "y"));
    let told = |a: &Mapping, b: &Mapping| {
        let found = |a: &Mapping, b: &Mapping| may_meet(a, &versioned(), std::slice::from_ref(b));
        let (one, two) = (found(a, b), found(b, a));
        assert_eq!(one.is_some(), two.is_some());
        one.map_or(String::new(), |warning| warning.message)
    };
    let ignoring = |mapping: &Mapping| Mapping {
        on_delete: OnDelete::Ignore,
        ..mapping.clone()
    };
    let [c, d] = [&a, &b].map(|mapping| under(mapping, Guard::Columns));
    let warning = "mapping \"other\" writes the same columns of public.products, by another filter";
    assert_eq!(told(&c, &d), warning);
    assert_eq!(told(&ignoring(&c), &d), warning);
    assert_eq!(told(&c, &ignoring(&d)), warning);
    // neither deletes
    assert_eq!(told(&ignoring(&c), &ignoring(&d)), "");
    // each has versions of its own
    assert_eq!(told(&a, &b), "");
    // they write other columns, or let the same rows in
    let prices = with(&d, r#"{"id": "record.id", "price": "record.price"}"#);
    assert_eq!(told(&with(&c, NARROW), &prices), "");
    assert_eq!(told(&c, &filtered(&d, "x")), "");
    let unfiltered = Mapping { filter: None, ..d };
    assert_eq!(told(&c, &unfiltered), "");
}

#[test]
fn a_row_has_values_if_a_column_of_the_other_mapping_has_one() {
    let sharer = |columns: &[&str]| Sharer {
        mapping: 2,
        name: "other".into(),
        key: vec![0],
        keeps_rows: false,
        columns: names(columns).unwrap(),
    };
    assert_eq!(sharer(&[]).has_values(), None);
    assert_eq!(
        sharer(&["price", "a b"]).has_values().unwrap(),
        "(d.price is not null or d.\"a b\" is not null)"
    );
}

#[test]
fn what_is_shared_takes_memory_for_each_entry() {
    let (a, b) = pair();
    assert_eq!(Shared::default().memory(), 0);
    // a rival, which is a peer too; a list begins with room for a few
    let (memory, entry) = (shared(&a, &b).memory(), size_of::<usize>());
    assert!((2 * entry..=16 * entry).contains(&memory), "{memory}");
}

#[test]
fn a_name_that_is_not_of_a_partition_is_of_another_table() {
    for (table, is_partition) in [
        ("products_p1", true),
        ("products_prices", false),
        ("products_default_old", true),
        ("products_no_default", false),
    ] {
        let b = other(&format!("public.{table}"));
        let refused = check_shared(&mapping(), &products(), &[b]);
        assert_eq!(refused.is_some(), is_partition, "{table}");
    }
}

#[test]
fn a_key_column_without_a_source_is_shared_with_none() {
    let (a, b) = pair();
    apart(&with(&a, r#"{"name": "record.name"}"#), &b, &products());
}

#[test]
fn expressions_over_other_tables_agree_if_they_are_the_same_and_read_no_metadata() {
    let found = |of_a: &str, of_b: &str| {
        let keyed = |mapping: Mapping, sql: &str| Mapping {
            key: names(&["id", "name"]),
            ..with(
                &mapping,
                &format!(r#"{{"id": {{"sql": "{sql}"}}, "*": "record.*"}}"#),
            )
        };
        let (a, b) = (keyed(mapping(), of_a), keyed(other("public.orders"), of_b));
        !shared(&a, &b).rivals.is_empty()
    };
    assert!(found("record->>'id'", "record->>'id'"));
    assert!(!found("record->>'id'", "1"));
    let metadata = "metadata->>'table_name'";
    assert!(!found(metadata, metadata));
    assert!(!found(metadata, "1"));
}

#[test]
fn the_fault_says_why_both_write_a_row_and_what_to_do() {
    let (a, b) = pair();
    let fault = |a: &Mapping, b: &Mapping| {
        let fault = check_shared(a, &versioned(), std::slice::from_ref(b)).unwrap();
        (fault.message.clone(), hint(&fault).to_owned())
    };
    let same_source = Mapping {
        source: a.source.clone(),
        ..b.clone()
    };
    let (message, hint) = fault(&filtered(&a, "x"), &filtered(&same_source, "y"));
    assert_eq!(
        message,
        "another mapping, with another filter, writes the same rows of public.products"
    );
    let one = "Use one mapping, whose filter lets the rows of both in.";
    assert_eq!(hint, one);

    let includes = "another mapping, of a source that includes or is part of this one";
    let (message, hint) = fault(&a, &b);
    assert!(message.starts_with(includes), "{message}");
    assert!(
        hint.starts_with("Use one mapping with a wildcard"),
        "{hint}"
    );
    let (message, hint) = fault(&a, &with(&b, NARROW));
    assert!(message.starts_with(includes), "{message}");
    let only = "Let only one of the two write these columns, under guard => 'table'.";
    assert_eq!(hint, only);

    // under guard columns, parts of rows need versions of their own; only rivals may not write the same columns at all
    let table = "Use guard => 'table' for both, so that each has versions of its own.";
    let [a, b, same] = [a, b, same_source].map(|mapping| under(&mapping, Guard::Columns));
    let (message, hint) = fault(&a, &with(&same, NARROW));
    assert!(message.starts_with("another mapping writes other columns"));
    assert_eq!(hint, table);
    let elsewhere = Mapping {
        source: from("public.orders").source,
        ..with(&b, NARROW)
    };
    assert_eq!(fault(&a, &elsewhere).1, table);
    let refused = format!("{table} Only one of them may write (name).");
    assert_eq!(fault(&a, &with(&b, NARROW)).1, refused);
}
