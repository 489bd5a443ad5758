//! Versions are never forgotten without a word.

use support::{Database, message, run, send};

use super::guards::with_notices;
use super::{ITEM, item, record};

const RESYNC: &str = "Run: SELECT sequin.begin_resync('item'); then start a backfill in Sequin, and run: SELECT sequin.finish_resync('item');";

#[test]
fn a_mapping_that_forgets_versions_says_so() {
    for (change, said) in [
        ("update sequin.mapping set key = '{name}'", "1 rows"),
        ("update sequin.mapping set key = '{id,name}'", "1 rows"),
        (
            "select sequin.alter_mapping('item', key => '{name}')",
            "1 rows",
        ),
        ("update sequin.mapping set destination = 'other'", "1 rows"),
        (
            "select sequin.map('public.item', 'item', key => '{name}', guard => 'table', name => 'item')",
            "1 rows",
        ),
        ("update sequin.mapping set guard = 'off'", ""),
        ("select sequin.unmap('item')", "1 rows"),
        ("update sequin.mapping set on_delete = 'ignore'", ""),
    ] {
        let database = Database::new("forgotten");
        let (mut client, notices) = with_notices(&database);
        run(&mut client, ITEM);
        run(
            &mut client,
            "create table other (like item including all);
             create unique index on item (name); create unique index on item (id, name);
             create unique index on other (name);
             select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
        );
        send(&mut client, &[item("insert", 1, record(1, "a"))]);
        notices.lock().expect("the notices").clear();
        run(&mut client, change);
        let told = notices.lock().expect("the notices").clone();
        assert_eq!(
            told.len(),
            usize::from(!said.is_empty()),
            "{change}: {told:?}"
        );
        assert!(
            told.iter().all(|text| text.contains(said)),
            "{change}: {told:?}"
        );
        if !said.is_empty() && !change.contains("unmap") {
            assert!(told[0].ends_with(RESYNC), "{told:?}");
        }
    }
}

#[test]
fn guard_columns_are_left_with_a_word() {
    let database = Database::new("forgotten_columns");
    let (mut client, notices) = with_notices(&database);
    run(&mut client, ITEM);
    run(
        &mut client,
        "select sequin.map('public.item', 'item', guard => 'columns', name => 'item')",
    );
    send(
        &mut client,
        &[message("insert", "item", 1, &record(1, "a"))],
    );
    for (guard, told) in [("auto", 0), ("table", 1), ("columns", 0), ("table", 1)] {
        notices.lock().expect("the notices").clear();
        run(
            &mut client,
            &format!("update sequin.mapping set guard = '{guard}'"),
        );
        assert_eq!(notices.lock().expect("the notices").len(), told, "{guard}");
    }
}
