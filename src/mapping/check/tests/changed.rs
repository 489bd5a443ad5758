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
