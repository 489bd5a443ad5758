//! Two mappings that supply the same rows.

#![forbid(unsafe_code)]

use std::rc::Rc;

use super::*;

/// The mapping, and another one whose source includes its source.
pub(super) fn pair() -> (Mapping, Mapping) {
    let other = Mapping {
        id: 2,
        name: "other".into(),
        ..from("public.*")
    };
    (mapping(), other)
}

pub(super) fn from(source: &str) -> Mapping {
    MappingRow {
        source: source.into(),
        guard: "table".into(),
        ..MappingRow::example()
    }
    .parse()
    .unwrap()
}

pub(super) fn specs(json: &str) -> ColumnSpecs {
    ColumnSpecs::parse(json).unwrap()
}

pub(super) fn names(columns: &[&str]) -> Option<Vec<String>> {
    Some(columns.iter().map(|name| (*name).to_owned()).collect())
}

/// `products` with the columns for versions, a generated column, and the column `gone`.
pub(super) fn versioned() -> Destination {
    let mut destination = products();
    destination
        .columns
        .extend(GUARD_COLUMNS.map(|(name, type_oid, _)| column(name, type_oid)));
    destination.columns.push(Column {
        generated: true,
        ..column("search", 25)
    });
    destination.columns.push(column("gone", 16));
    destination
}

/// The DETAIL of the fault, whichever of the two is made last; empty without a fault.
#[track_caller]
fn detail(a: &Mapping, b: &Mapping, destination: &Destination) -> String {
    let detail = |a: &Mapping, b: &Mapping| {
        let fault = check_shared(a, destination, std::slice::from_ref(b));
        fault.map_or(String::new(), |fault| fault.detail.clone().unwrap())
    };
    let found = detail(a, b);
    assert_eq!(found, detail(b, a));
    found
}

#[track_caller]
pub(super) fn apart(a: &Mapping, b: &Mapping, destination: &Destination) {
    assert_eq!(detail(a, b, destination), "");
}

#[test]
fn a_source_within_another_one_brings_the_same_rows() {
    let (a, b) = pair();
    let fault = check_shared(&a, &products(), std::slice::from_ref(&b)).unwrap();
    assert_eq!(fault.code, sqlstate::WRONG_OBJECT_TYPE);
    assert_eq!(
        fault.message,
        "another mapping, of a source that includes or is part of this one, writes the same rows of public.products"
    );
    let of = detail(&a, &b, &products());
    assert!(of.starts_with("Both write (name, price). "), "{of}");
    assert!(hint(&fault).starts_with("Use one mapping with a wildcard in its source"));
}

#[test]
fn changes_of_other_sources_are_not_compared() {
    let other = |source: &str| Mapping {
        id: 2,
        name: "other".into(),
        ..from(source)
    };
    apart(
        &from("public.products"),
        &other("public.products"),
        &products(),
    );
    for (one, two, are_one) in [
        ("public.products", "public.orders", false),
        ("public.products", "public.products_2", false),
        ("public.products", "public.products2026", false),
        ("public.products", "shop.products_2026", false),
        ("eu.public.products", "us.public.products", false),
        ("public.a*", "public.b*", false),
        ("public.a*", "public.*b", true),
        ("public.products", "eu.public.products", true),
        ("public.products", "public.products_2026_01", true),
        ("public.products", "public.products_p1", true),
        ("public.products", "public.products_y2026", true),
        ("public.products", "public.products_default", true),
        ("public.products", "public.products_part2", true),
    ] {
        for (one, two) in [(one, two), (two, one)] {
            let (a, b) = (from(one), other(two));
            let refused = check_shared(&a, &products(), std::slice::from_ref(&b));
            assert_eq!(refused.is_some(), are_one, "{one} {two}");
            let said = |fault: &Fault| fault.message.contains("includes or is part of this one");
            assert!(refused.as_ref().is_none_or(said), "{one} {two}");
            let found = Shared::of(&a, &products(), std::slice::from_ref(&b)).rivals;
            assert_eq!(found.len(), 1, "{one} {two}");
            assert_eq!(
                Shared::of(&a, &products(), std::slice::from_ref(&b)).sharers,
                []
            );
            let told = may_meet(&a, &products(), std::slice::from_ref(&b)).unwrap();
            assert!(
                told.message
                    .starts_with("mapping \"other\" writes the same columns")
            );
            // the columns hold one version, whose source no one knows
            let under = |mapping: &Mapping| Mapping {
                guard: Guard::Columns,
                ..mapping.clone()
            };
            let refused = check_shared(&under(&a), &versioned(), &[under(&b)]).unwrap();
            let table = hint(&refused).contains("use guard => 'table' for both");
            assert_eq!(table, !are_one, "{one} {two}");
        }
    }
}

/// Mappings that write columns of their own share the row, whatever their sources.
#[test]
fn columns_of_ones_own_are_shared_rows() {
    let (a, b) = pair();
    let with = |mapping: &Mapping, json| Mapping {
        columns: specs(json),
        ..mapping.clone()
    };
    let names = with(&a, r#"{"id": "record.id", "name": "record.name"}"#);
    let prices = with(&b, r#"{"id": "record.id", "price": "record.price"}"#);
    let found = Shared::of(&names, &products(), std::slice::from_ref(&prices)).sharers;
    let sharer = Sharer {
        mapping: b.id,
        name: b.name.clone(),
        key: vec![0],
        keeps_rows: false,
        columns: vec!["price".to_owned()],
    };
    assert_eq!(found, [Rc::new(sharer)]);
    let kept = Mapping {
        on_delete: OnDelete::Ignore,
        ..prices.clone()
    };
    assert!(Shared::of(&names, &products(), std::slice::from_ref(&kept)).sharers[0].keeps_rows);
    // not without versions, nor with nothing of its own, nor with another key
    let off = Mapping {
        guard: Guard::Off,
        ..prices.clone()
    };
    let part = with(&b, r#"{"id": "record.id"}"#);
    let other_key = Mapping {
        key: self::names(&["price"]),
        ..prices
    };
    for other in [off, part, other_key] {
        assert_eq!(Shared::of(&names, &products(), &[other]).sharers, []);
    }
}

#[test]
fn a_mapping_shares_no_rows_with_itself() {
    let (a, b) = pair();
    apart(
        &a,
        &Mapping {
            id: a.id,
            ..b.clone()
        },
        &products(),
    );
    // nor with the one that it replaces
    let name = a.name.clone();
    apart(&a, &Mapping { name, ..b }, &products());
}

#[test]
fn rows_are_shared_in_one_destination_under_one_guard() {
    let (a, b) = pair();
    for destination in [Some(2), None] {
        let b = Mapping {
            destination,
            ..b.clone()
        };
        apart(&a, &b, &products());
    }
    let under = |guard| Mapping { guard, ..b.clone() };
    apart(&a, &under(Guard::Off), &products());
    // versions in the columns are no versions of the other mapping
    assert_ne!(detail(&a, &under(Guard::Columns), &versioned()), "");
    let off = |mapping: &Mapping| Mapping {
        guard: Guard::Off,
        ..mapping.clone()
    };
    apart(&off(&a), &off(&b), &products());
    // guard auto is the one that the destination's columns decide for
    let auto = Mapping {
        guard: Guard::Auto,
        ..b
    };
    assert_ne!(detail(&a, &auto, &products()), "");
}

#[test]
fn a_log_and_two_filters_share_no_rows() {
    let (a, b) = pair();
    let log = Mapping {
        mode: Mode::Append,
        ..b.clone()
    };
    apart(&a, &log, &products());
    let filtered = |mapping: &Mapping, filter: &str| Mapping {
        filter: Some(filter.into()),
        ..mapping.clone()
    };
    apart(&filtered(&a, "true"), &filtered(&b, "false"), &products());
    // A row goes from one to the other by a message that both take.
    let same = Mapping {
        source: a.source.clone(),
        ..b.clone()
    };
    for other in [filtered(&same, "false"), same] {
        assert_ne!(detail(&filtered(&a, "true"), &other, &products()), "");
    }
    for a in [a.clone(), filtered(&a, "true")] {
        assert_ne!(detail(&a, &filtered(&b, "true"), &products()), "");
    }
}

#[test]
fn other_keys_find_other_rows() {
    let (a, b) = pair();
    for key in [&["name"][..], &["id", "name"]] {
        let b = Mapping {
            key: names(key),
            ..b.clone()
        };
        apart(&a, &b, &products());
    }
    let both = |key: &[&str]| {
        let with = |mapping: &Mapping| Mapping {
            key: names(key),
            ..mapping.clone()
        };
        (with(&a), with(&b))
    };
    let (a, mut b) = both(&["id", "name"]);
    assert!(detail(&a, &b, &products()).starts_with("Both write (price). "));
    b.key = names(&["name", "id"]);
    assert!(detail(&a, &b, &products()).starts_with("Both write (price). "));
    b.key = names(&["name", "price"]);
    apart(&a, &b, &products());
}

#[test]
fn keys_agree_if_the_record_or_one_constant_gives_them() {
    let (a, b) = pair();
    let found = |of_a: &str, of_b: &str| {
        let with = |mapping: &Mapping, id: &str| Mapping {
            key: names(&["id", "name"]),
            columns: specs(&format!(r#"{{"id": {id}, "*": "record.*"}}"#)),
            ..mapping.clone()
        };
        !detail(&with(&a, of_a), &with(&b, of_b), &products()).is_empty()
    };
    let (record, constant) = (r#""record.other""#, r#"{"value": 1}"#);
    assert!(found(record, record));
    assert!(found(record, r#""record.id""#));
    assert!(found(constant, constant));
    assert!(!found(constant, r#"{"value": 2}"#));
    assert!(!found(constant, record));
    // an expression may give any value
    let (sql, metadata) = (r#"{"sql": "1"}"#, r#""metadata.commit_idx""#);
    assert!(found(sql, sql));
    assert!(found(sql, record));
    assert!(found(sql, r#"{"sql": "2"}"#));
    assert!(!found(sql, constant));
    // one message gives both the same
    assert!(found(metadata, metadata));
    for other in [record, constant, sql, r#""metadata.table_name""#] {
        assert!(!found(metadata, other), "{other}");
    }
}

#[test]
fn only_columns_that_both_write_count() {
    let (a, b) = pair();
    let soft = Mapping {
        on_delete: OnDelete::Soft,
        soft_delete: Some("gone".into()),
        ..a.clone()
    };
    let of = detail(&soft, &b, &versioned());
    assert!(of.starts_with("Both write (name, price). "), "{of}");
    let with = |mapping: &Mapping, json| Mapping {
        columns: specs(json),
        ..mapping.clone()
    };
    let a = with(&a, r#"{"id": "record.id", "name": "record.name"}"#);
    let of = detail(&a, &b, &products());
    assert!(of.starts_with("Both write (name). "), "{of}");
    let b = with(&b, r#"{"id": "record.id", "price": "record.price"}"#);
    apart(&a, &b, &products());
}

#[test]
fn under_guard_columns_both_write_the_same_columns() {
    let (a, b) = pair();
    let under = |mapping: Mapping, guard| Mapping { guard, ..mapping };
    let same = |mapping: &Mapping| Mapping {
        source: a.source.clone(),
        ..mapping.clone()
    };
    let (a, b) = (
        under(a.clone(), Guard::Columns),
        under(same(&b), Guard::Auto),
    );
    apart(&a, &b, &versioned());
    let narrow = Mapping {
        columns: specs(r#"{"id": "record.id", "name": "record.name"}"#),
        ..b
    };
    let fault = check_shared(&a, &versioned(), std::slice::from_ref(&narrow)).unwrap();
    assert_eq!(
        fault.message,
        "another mapping writes other columns of the same rows of public.products"
    );
    assert!(hint(&fault).starts_with("Use guard => 'table' for both"));
    let elsewhere = Mapping {
        source: from("public.*").source,
        ..narrow.clone()
    };
    let fault = check_shared(&a, &versioned(), std::slice::from_ref(&elsewhere)).unwrap();
    assert!(hint(&fault).ends_with("Only one of them may write (name)."));
    assert_ne!(detail(&a, &narrow, &versioned()), "");
}
