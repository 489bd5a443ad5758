//! Unique values of rows that are marked as deleted.

use postgres::Client;
use support::{Database, apply, message, rows, run};

use super::warned;

/// The statements that warnings of `sequin.map` give.
fn statements(warnings: &[String]) -> Vec<String> {
    let run = |warning: &String| Some(warning.split_once("Run: ")?.1.to_owned());
    warnings.iter().filter_map(run).collect()
}

/// Whether a row takes all values of one that was deleted.
fn frees(client: &mut Client, record: &str) {
    let of = |id: u64| format!(r#"{{"id":{id},{record}}}"#);
    let counts = [
        apply(client, &message("insert", "item", 1, &of(1))),
        apply(client, &message("delete", "item", 2, &of(1))),
        apply(client, &message("insert", "item", 3, &of(2))),
    ];
    assert!(counts.iter().all(|count| count.dead == 0), "{counts:?}");
    let marked = "select id, gone is null or gone::text = 'false' from item order by id";
    assert_eq!(rows(client, marked), ["1|f", "2|t"]);
}

#[test]
fn the_statements_free_the_values_of_marked_rows() {
    for (mark, unset) in [
        ("timestamptz", "gone is null"),
        ("timestamp", "gone is null"),
        ("boolean default false", "not gone"),
    ] {
        let database = Database::new("marked");
        let (mut client, warnings) = warned(&database);
        let notices = || std::mem::take(&mut *warnings.lock().expect("warnings"));
        run(
            &mut client,
            &format!(
                "create table item (id integer primary key, name text unique, code text, \"Span\" int4range, gone {mark},
                                    unique nulls not distinct (name, code), unique (code) deferrable,
                                    exclude using gist (\"Span\" with &&) deferrable initially deferred,
                                    constraint \"Some\" exclude (code with =) where (code <> '' or code is null));
                 create unique index \"By Code\" on item (lower(code)) where code <> '' or code is null;
                 create unique index knows on item (name, gone);
                 create unique index knows_too on item (name) where {unset};
                 create unique index also_key on item (id);
                 create index plain on item (name)"
            ),
        );
        let map = "select sequin.map('public.item', 'item', name => 'item', guard => 'table',
                                     on_delete => 'soft', soft_delete => 'gone')";
        run(&mut client, map);
        let found = statements(&notices());
        assert_eq!(found.len(), 6, "{found:?}");
        for statement in found {
            run(&mut client, &statement);
        }
        run(&mut client, map);
        assert_eq!(notices(), [""; 0]);
        assert_eq!(
            rows(
                &mut client,
                "select condeferrable, condeferred from pg_constraint where conname = 'item_Span_excl'"
            ),
            ["t|t"]
        );
        frees(&mut client, r#""name":"a","code":"C","Span":"[1,3)""#);
    }
}

/// Each way to change a mapping warns.
#[test]
fn a_mapping_that_becomes_soft_warns() {
    let database = Database::new("marked_later");
    let (mut client, warnings) = warned(&database);
    let notices = || std::mem::take(&mut *warnings.lock().expect("warnings"));
    run(
        &mut client,
        "create table item (id integer primary key, name text unique, gone boolean);
         select sequin.map('public.item', 'item', name => 'item', guard => 'table')",
    );
    assert_eq!(notices(), [""; 0]);
    run(
        &mut client,
        "select sequin.alter_mapping('item', on_delete => 'soft', soft_delete => 'gone')",
    );
    assert_eq!(statements(&notices()).len(), 1);
    // what was so before is not told again
    run(
        &mut client,
        "select sequin.pause('item'); select sequin.resume('item')",
    );
    assert_eq!(notices(), [""; 0]);
    // made again, it is
    run(
        &mut client,
        "select sequin.map('public.item', 'item', name => 'item', guard => 'table',
                           on_delete => 'soft', soft_delete => 'gone')",
    );
    assert_eq!(statements(&notices()).len(), 1);
    run(
        &mut client,
        "delete from sequin.mapping;
         insert into sequin.mapping (source, destination, on_delete, soft_delete, guard)
         values ('public.item', 'item', 'soft', 'gone', 'table')",
    );
    assert_eq!(statements(&notices()).len(), 1);
}

#[test]
fn partitions_and_referenced_values() {
    let database = Database::new("marked_parts");
    let (mut client, warnings) = warned(&database);
    let notices = || std::mem::take(&mut *warnings.lock().expect("warnings"));
    run(
        &mut client,
        "create table item (id integer primary key, name text, code text, gone timestamptz, unique (id, name))
             partition by hash (id);
         create table \"Item 0\" partition of item for values with (modulus 2, remainder 0);
         create table item_1 partition of item for values with (modulus 2, remainder 1);
         create unique index on \"Item 0\" (code)",
    );
    let map = "select sequin.map('public.item', 'item', name => 'item', guard => 'table',
                                 on_delete => 'soft', soft_delete => 'gone')";
    run(&mut client, map);
    let found = statements(&notices());
    assert_eq!(found.len(), 2, "{found:?}");
    for statement in found {
        run(&mut client, &statement);
    }
    assert_eq!(
        rows(
            &mut client,
            "select count(*) from pg_index where not indisvalid"
        ),
        ["0"]
    );
    run(&mut client, map);
    assert_eq!(notices(), [""; 0]);

    run(
        &mut client,
        "select sequin.unmap('item');
         create table word (id integer primary key, name text unique, gone boolean);
         create table use (name text references word (name));
         select sequin.map('public.word', 'word', on_delete => 'soft', soft_delete => 'gone', guard => 'table')",
    );
    let told = notices();
    assert!(
        told.len() == 1 && told[0].contains("Foreign keys refer to it"),
        "{told:?}"
    );
}

/// A primary key that is not the mapping's key, but not what the mapping does not write; and the replica identity.
#[test]
fn other_keys_of_marked_rows() {
    for (ddl, columns, found) in [
        (
            "id integer primary key, code text unique, name text",
            "null",
            1,
        ),
        (
            "id serial primary key, code text unique, name text",
            "null",
            0,
        ),
        (
            "id integer primary key, code text unique, own text unique",
            "'{\"id\": \"record.id\", \"code\": \"record.code\"}'",
            1,
        ),
        (
            "id integer primary key, code text unique, hash text unique generated always as (upper(code)) stored",
            "null",
            2,
        ),
    ] {
        let database = Database::new("marked_keys");
        let (mut client, warnings) = warned(&database);
        let notices = || std::mem::take(&mut *warnings.lock().expect("warnings"));
        run(
            &mut client,
            &format!("create table item ({ddl}, gone boolean)"),
        );
        let map = format!(
            "select sequin.map('public.item', 'item', name => 'item', guard => 'table', key => '{{code}}',
                               columns => {columns}, on_delete => 'soft', soft_delete => 'gone')"
        );
        run(&mut client, &map);
        let statements = statements(&notices());
        assert_eq!(statements.len(), found, "{ddl}: {statements:?}");
        for statement in statements {
            run(&mut client, &statement);
        }
        run(&mut client, &map);
        assert_eq!(notices(), [""; 0], "{ddl}");
        let of = |code: &str| format!(r#"{{"id":1,"code":"{code}"}}"#);
        for (action, code, lsn) in [("insert", "a", 1), ("delete", "a", 2), ("insert", "b", 3)] {
            let counts = apply(&mut client, &message(action, "item", lsn, &of(code)));
            assert_eq!(
                counts.dead,
                i64::from(found == 0 && lsn == 3),
                "{ddl} {code}"
            );
        }
    }

    let database = Database::new("marked_identity");
    let (mut client, warnings) = warned(&database);
    run(
        &mut client,
        "create table item (id integer primary key, code text not null unique, gone boolean);
         alter table item replica identity using index item_code_key;
         create publication everything for all tables;
         select sequin.map('public.item', 'item', guard => 'table', on_delete => 'soft', soft_delete => 'gone')",
    );
    let found = statements(&warnings.lock().expect("warnings"));
    run(&mut client, &found[0]);
    frees(&mut client, r#""code":"c""#);
}
