//! Two mappings that supply the same rows.

#![forbid(unsafe_code)]

use super::*;

/// The mapping, and another one whose source includes its source.
fn pair() -> (Mapping, Mapping) {
    let other = Mapping {
        id: 2,
        name: "other".into(),
        ..from("public.*")
    };
    (mapping(), other)
}

fn from(source: &str) -> Mapping {
    MappingRow {
        source: source.into(),
        guard: "table".into(),
        ..MappingRow::example()
    }
    .parse()
    .unwrap()
}

fn specs(json: &str) -> ColumnSpecs {
    ColumnSpecs::parse(json).unwrap()
}

fn names(columns: &[&str]) -> Option<Vec<String>> {
    Some(columns.iter().map(|name| (*name).to_owned()).collect())
}

/// `products` with the columns for versions, a generated column, and the column `gone`.
fn versioned() -> Destination {
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
        let faults = check_shared(a, destination, std::slice::from_ref(b));
        assert!(faults.len() <= 1, "{faults:#?}");
        let fault = faults.into_iter().next();
        fault.map_or(String::new(), |fault| fault.detail.clone().unwrap())
    };
    let found = detail(a, b);
    assert_eq!(found, detail(b, a));
    found
}

#[track_caller]
fn apart(a: &Mapping, b: &Mapping, destination: &Destination) {
    assert_eq!(detail(a, b, destination), "");
}

#[test]
fn a_source_within_another_one_brings_the_same_rows() {
    let (a, b) = pair();
    let faults = check_shared(&a, &products(), std::slice::from_ref(&b));
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].code, sqlstate::WRONG_OBJECT_TYPE);
    assert_eq!(
        faults[0].message,
        "another mapping, of a source that includes or is part of this one, writes the same rows of public.products"
    );
    let of = detail(&a, &b, &products());
    assert!(of.starts_with("Both write (name, price). "), "{of}");
    // one example is enough
    let third = Mapping { id: 3, ..b.clone() };
    assert_eq!(check_shared(&a, &products(), &[b, third]).len(), 1);
}

#[test]
fn sources_without_common_tables_are_not_compared() {
    let other = |source: &str| Mapping {
        id: 2,
        name: "other".into(),
        ..from(source)
    };
    for (one, two) in [
        ("public.products", "public.products"),
        ("public.products", "public.orders"),
        ("public.products", "public.products_2"),
        ("public.products", "public.products2026"),
        ("public.products", "shop.products_2026"),
        ("public.a*", "public.b*"),
    ] {
        apart(&from(one), &other(two), &products());
        let met = may_meet(&from(one), &products(), &[other(two)]);
        assert_eq!(met.is_some(), one != two, "{one} {two}");
    }
    for (one, two) in [
        ("public.a*", "public.*b"),
        ("public.products", "public.products_2026_01"),
        ("public.products", "public.products_p1"),
        ("public.products", "public.products_y2026"),
        ("public.products", "public.products_default"),
        ("public.products", "public.products_part2"),
    ] {
        assert_ne!(
            detail(&from(one), &other(two), &products()),
            "",
            "{one} {two}"
        );
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
    let (a, b) = (under(a, Guard::Columns), under(b, Guard::Auto));
    apart(&a, &b, &versioned());
    let narrow = Mapping {
        columns: specs(r#"{"id": "record.id", "name": "record.name"}"#),
        ..b
    };
    let faults = check_shared(&a, &versioned(), std::slice::from_ref(&narrow));
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].message,
        "another mapping writes other columns of the same rows of public.products"
    );
    assert!(hint(&faults[0]).starts_with("Use guard => 'table' for both"));
    assert_ne!(detail(&a, &narrow, &versioned()), "");
}
