//! Unique values of rows that are marked as deleted.

use support::{Database, apply, message, rows, run};

const INDEXES: &str =
    "select name, statement from sequin_internal.unique_when_deleted('item', '{id}', 'gone')";

#[test]
fn the_statement_frees_the_values_of_marked_rows() {
    for (mark, unset) in [
        ("timestamptz", "null"),
        ("timestamp", "null"),
        ("boolean default false", "false"),
    ] {
        let database = Database::new("marked");
        let mut client = database.connect();
        run(
            &mut client,
            &format!(
                "set client_min_messages = error;
                 create table item (id integer primary key, name text unique, code text, gone {mark});
                 create unique index \"By Code\" on item (lower(code)) where code <> '';
                 create unique index knows on item (name, gone);
                 create unique index knows_too on item (name) where gone is null;
                 create unique index also_key on item (id);
                 create index plain on item (name)"
            )
            .replace("where gone is null", if unset == "false" { "where not gone" } else { "where gone is null" }),
        );
        let found = rows(&mut client, INDEXES);
        assert_eq!(found.len(), 2, "{found:?}");
        for index in found {
            let (_, statement) = index.split_once('|').unwrap();
            run(&mut client, statement);
        }
        assert!(rows(&mut client, INDEXES).is_empty());
        run(
            &mut client,
            "select sequin.map('public.item', 'item', on_delete => 'soft', soft_delete => 'gone', guard => 'table')",
        );
        let of = |action, lsn, id: u64| {
            message(
                action,
                "item",
                lsn,
                &format!(r#"{{"id":{id},"name":"a","code":"C"}}"#),
            )
        };
        assert_eq!(apply(&mut client, &of("insert", 1, 1)).upserted, 1);
        assert_eq!(apply(&mut client, &of("delete", 2, 1)).deleted, 1);
        assert_eq!(
            apply(&mut client, &of("insert", 3, 2)).upserted,
            1,
            "{mark}"
        );
        assert_eq!(
            rows(
                &mut client,
                "select id, gone is not distinct from null or gone::text = 'false' from item order by id"
            ),
            ["1|f", "2|t"],
            "{mark}"
        );
    }
}
