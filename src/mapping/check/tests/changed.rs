//! A destination that has changed since the mapping was made: the HINT is a statement that lets the mapping follow.

use super::*;

fn changed(mapping: &Mapping, destination: &Destination, former: &[(&str, Option<&str>)]) -> Fault {
    let former: FormerKey = former
        .iter()
        .map(|(then, now)| ((*then).to_owned(), now.map(str::to_owned)))
        .collect();
    let mut faults = check_changed(mapping, destination, &former);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

/// `products` without its column `price`, and with these instead.
fn with(names: &[&str]) -> Destination {
    let mut products = products();
    products.columns.truncate(2);
    let more = names.iter().map(|name| column(name, 25));
    products.columns.extend(more);
    products
}

fn named() -> Mapping {
    columns(r#"{"id": "record.id", "name": "record.name", "price": "record.price"}"#)
}

#[test]
fn a_column_that_was_dropped_is_left_out() {
    let fault = changed(&named(), &with(&[]), &[]);
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    assert_eq!(
        hint(&fault),
        r#"Run: SELECT sequin.alter_mapping('m', columns => '{"id": "record.id", "name": "record.name"}');"#
    );
}

#[test]
fn a_column_that_was_renamed_is_offered() {
    let renamed = r#"If it was renamed to "amount", run: SELECT sequin.alter_mapping('m', columns => '{"id": "record.id", "name": "record.name", "amount": "record.price"}'); If it was dropped, run: SELECT sequin.alter_mapping('m', columns => '{"id": "record.id", "name": "record.name"}');"#;
    assert_eq!(hint(&changed(&named(), &with(&["amount"]), &[])), renamed);
    // Of several the one that looks like it, if one does.
    let several = changed(&named(), &with(&["other", "prices"]), &[]);
    assert!(hint(&several).starts_with("If it was renamed to \"prices\""));
    let none = changed(&named(), &with(&["other", "thing"]), &[]);
    assert!(hint(&none).starts_with("Run: SELECT"), "{}", hint(&none));
    let best = changed(&named(), &with(&["pricier", "prices"]), &[]);
    assert!(hint(&best).starts_with("If it was renamed to \"prices\""));
}

#[test]
fn a_column_that_a_message_never_writes_is_no_new_name() {
    let mut generated = with(&["amount"]);
    generated.columns[2].generated = true;
    let fault = changed(&named(), &generated, &[]);
    assert!(hint(&fault).starts_with("Run: SELECT"), "{}", hint(&fault));
    let soft = Mapping {
        on_delete: OnDelete::Soft,
        soft_delete: Some("gone".into()),
        ..named()
    };
    let mut marked = with(&[]);
    marked.columns.push(column("gone", 16));
    let fault = changed(&soft, &marked, &[]);
    assert!(hint(&fault).starts_with("Run: SELECT"), "{}", hint(&fault));
}

#[test]
fn what_is_left_of_the_columns_is_said() {
    let only = |json| hint(&changed(&columns(json), &with(&[]), &[])).to_owned();
    // the record brings the other columns, and a renamed column is perhaps one of them
    assert_eq!(
        only(r#"{"price": "record.price", "*": "record.*"}"#),
        r#"If it was dropped, run: SELECT sequin.alter_mapping('m', columns => '{"*": "record.*"}'); If it was renamed, give it its new name in columns."#
    );
    let none = Mapping {
        mode: Mode::Append,
        ..columns(r#"{"price": "record.price"}"#)
    };
    let mut destination = with(&[]);
    destination.columns.truncate(1);
    destination.columns[0].generated = true;
    let fault = changed(&none, &destination, &[]);
    assert_eq!(
        hint(&fault),
        "Give the column its name back, or run: SELECT sequin.unmap('m');"
    );
}

#[test]
fn a_column_of_the_key_is_known_by_its_number() {
    let mut renamed = products();
    renamed.columns[0].name = "product".into();
    renamed.unique_indexes[0].columns = vec!["product".into()];
    let mapping = Mapping {
        key: Some(vec!["id".into()]),
        ..named()
    };
    let former = [("id", Some("product"))];
    assert_eq!(
        hint(&changed(&mapping, &renamed, &former)),
        r#"Run: SELECT sequin.alter_mapping('m', columns => '{"product": "record.id", "name": "record.name", "price": "record.price"}', key => '{product}');"#
    );
    let combined = Mapping {
        key: Some(vec!["id".into(), "name".into()]),
        ..named()
    };
    let fault = changed(&combined, &renamed, &former);
    assert!(
        hint(&fault).ends_with("key => '{product,name}');"),
        "{}",
        hint(&fault)
    );
    // The record has the former name.
    let mapping = key(&["id"]);
    assert_eq!(
        hint(&changed(&mapping, &renamed, &former)),
        r#"Run: SELECT sequin.alter_mapping('m', columns => '{"product": "record.id", "*": "record.*"}', key => '{product}');"#
    );
    let former: FormerKey = vec![("id".into(), Some("product".into()))];
    assert_eq!(
        follow_renamed_key(&super::mapping(), &renamed, &former).as_deref(),
        Some(
            r#"SELECT sequin.alter_mapping('m', columns => '{"product": "record.id", "*": "record.*"}');"#
        )
    );
    let same: FormerKey = vec![("id".into(), Some("id".into()))];
    assert_eq!(
        follow_renamed_key(&super::mapping(), &products(), &same),
        None
    );
}

#[test]
fn a_key_that_is_gone_comes_back() {
    let mut products = products();
    products.unique_indexes.clear();
    let fault = changed(&mapping(), &products, &[("id", Some("id"))]);
    assert_eq!(fault.code, sqlstate::INVALID_COLUMN_REFERENCE);
    assert_eq!(
        hint(&fault),
        "Run: ALTER TABLE public.products ADD PRIMARY KEY (id);"
    );
    let dropped = changed(&named(), &with(&[]), &[("price", None)]);
    assert!(hint(&dropped).starts_with("Give the table the column back"));
}

#[test]
fn a_primary_key_without_a_source_is_told_once() {
    let mut renamed = products();
    renamed.columns[0].name = "product".into();
    renamed.unique_indexes[0].columns = vec!["product".into()];
    let fault = changed(&named(), &renamed, &[("id", Some("product"))]);
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    // another column has become the key, and the one that was it is still there
    let mut moved = products();
    moved.columns.push(column("code", 25));
    moved.unique_indexes[0].columns = vec!["code".into()];
    let fault = changed(&named(), &moved, &[]);
    assert_eq!(
        fault.message,
        "key column \"code\" of public.products has no source"
    );
}

#[test]
fn settings_whose_column_is_gone_are_faults() {
    let soft = Mapping {
        on_delete: OnDelete::Soft,
        soft_delete: Some("gone".into()),
        ..mapping()
    };
    let fault = changed(&soft, &products(), &[]);
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    assert_eq!(
        fault.message,
        "soft_delete column \"gone\" of public.products does not exist"
    );
    let guarded = Mapping {
        guard: Guard::Columns,
        ..mapping()
    };
    let fault = changed(&guarded, &products(), &[]);
    assert_eq!(fault.code, sqlstate::UNDEFINED_COLUMN);
    let detail = fault.detail.as_deref().unwrap();
    assert!(
        detail.contains("The versions of the rows went with them"),
        "{detail}"
    );
}

#[test]
fn guard_columns_come_back_or_are_given_up() {
    let fault = check_guard_gone(&mapping(), &products());
    assert_eq!(
        hint(&fault),
        "Run: ALTER TABLE public.products ADD COLUMN sequin_lsn bigint, ADD COLUMN sequin_idx integer, ADD COLUMN \
         sequin_committed_at timestamp with time zone; Or, to keep the versions in sequin.row_version from now on, run: \
         SELECT sequin.alter_mapping('m', guard => 'table');"
    );
}

#[test]
fn what_was_allowed_still_is() {
    let none = FormerKey::new();
    assert_eq!(check_changed(&named(), &products(), &none), []);
    // A column that may not be null concerns single messages.
    let mut strict = products();
    strict.columns.push(Column {
        not_null: true,
        ..column("more", 25)
    });
    assert_eq!(check_changed(&named(), &strict, &none), []);
    assert_eq!(check(&named(), Some(&strict)).len(), 1);
}
