//! Rows that refer to a value which goes to another row, where a foreign key cascades deletes: their references are null
//! meanwhile, unless somebody would notice.

use std::thread;
use std::time::Duration;

use support::{Database, GUARDS, apply_error, batch, message, rows, run, send, value};

use super::{LETTERS, retry};

/// No update makes one row of `parent` another one: its key is always generated.
const TABLES: &str = "
    create table parent (id integer generated always as identity primary key, code text unique);
    create table child (id integer primary key, code text references parent (code) on delete cascade, note text)";

const ROWS: &str = "
    insert into parent (id, code) overriding system value values (5, 'd');
    insert into child values (1, 'd', 'a'), (2, 'd', 'b')";

const CHILDREN: &str = "select id, code, note from child order by id";

/// Another row gets the value of a row that goes.
fn replaced() -> [String; 2] {
    [
        message("insert", "parent", 1, r#"{"id":6,"code":"d"}"#),
        message("delete", "parent", 2, r#"{"id":5,"code":"d"}"#),
    ]
}

#[test]
fn rows_get_their_references_back() {
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("references_back", TABLES, &["parent", "child"], guard);
        run(&mut client, ROWS);
        assert_eq!(send(&mut client, &replaced()).dead, 0);
        assert_eq!(value(&mut client, "select id from parent"), "6");
        assert_eq!(rows(&mut client, CHILDREN), ["1|d|a", "2|d|b"]);
        assert_eq!(rows(&mut client, LETTERS), [""; 0]);
    }
}

/// A trigger, another foreign key or another mapping sees that the reference is null, and row security hides rows.
#[test]
fn rows_that_somebody_watches_keep_their_references() {
    for (watcher, away) in [
        (
            "create function keep() returns trigger language plpgsql as 'begin return null; end';
             create trigger keep before update on child for each row execute function keep()",
            "drop trigger keep on child",
        ),
        (
            "create function changes() returns trigger language plpgsql as
                 'begin if new.code is null then new.note := null; end if; return new; end';
             create trigger changes before update of code on child for each row execute function changes()",
            "alter table child disable trigger changes",
        ),
        (
            "alter table child enable row level security",
            "alter table child disable row level security",
        ),
        (
            "alter table child add column own text unique;
             create table grandchild (code text);
             alter table child add unique (id, code);
             alter table grandchild add column id integer,
                 add foreign key (id, code) references child (id, code) on update cascade;
             insert into grandchild values ('d', 1)",
            "drop table grandchild",
        ),
        (
            "select sequin.map('public.other', 'child', guard => 'off')",
            "select sequin.unmap(name) from sequin.mapping where source = 'public.other'",
        ),
        (
            "create table heir () inherits (child)",
            "drop table heir; analyze child",
        ),
    ] {
        let (_database, mut client) =
            Database::mapped("references_kept", TABLES, &["parent", "child"], "table");
        run(&mut client, ROWS);
        run(&mut client, watcher);
        assert_eq!(send(&mut client, &replaced()).dead, 2, "{watcher}");
        let children = "select id, code, note from child order by id";
        let kept = ["1|d|a", "2|d|b"];
        assert_eq!(rows(&mut client, children), kept, "{watcher}");
        run(&mut client, away);
        retry(&mut client, "");
        assert_eq!(value(&mut client, "select id from parent"), "6", "{watcher}");
        assert_eq!(rows(&mut client, children), kept, "{watcher}");
    }
}

/// The row is there, and as the other session left it.
#[test]
fn a_row_that_another_session_writes_meanwhile_stays() {
    for (write, wanted) in [
        (
            "update child set note = 'z' where id = 2",
            ["1|d|a", "2|d|z"].as_slice(),
        ),
        (
            "insert into child values (3, 'd', 'c')",
            &["1|d|a", "2|d|b", "3|d|c"],
        ),
    ] {
        let (database, mut client) = Database::mapped(
            "references_meanwhile",
            TABLES,
            &["parent", "child"],
            "table",
        );
        run(&mut client, ROWS);
        let mut other = database.connect();
        run(&mut other, &format!("begin; {write}"));
        let call = thread::spawn(move || {
            send(&mut client, &replaced());
            client
        });
        thread::sleep(Duration::from_millis(500));
        run(&mut other, "commit");
        let mut client = call.join().expect("the call");
        retry(&mut client, "");
        assert_eq!(rows(&mut client, CHILDREN), wanted);
        assert_eq!(value(&mut client, "select id from parent"), "6");
        assert_eq!(rows(&mut client, LETTERS), [""; 0]);
    }
}

/// A time-out while changes are written together ends the call.
#[test]
fn a_timeout_ends_the_call() {
    let table = "
        create table item (id integer primary key, code text unique);
        create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(5); return old; end';
        create trigger slow before delete on item for each row execute function slow()";
    let (_database, mut client) = Database::mapped("references_timeout", table, &["item"], "table");
    run(
        &mut client,
        "insert into item values (1, 'a'), (2, 'b'); set statement_timeout = '1s'",
    );
    let exchanged = [
        message("update", "item", 1, r#"{"id":1,"code":"b"}"#),
        message("update", "item", 2, r#"{"id":2,"code":"a"}"#),
    ];
    let error = apply_error(&mut client, &batch(&exchanged));
    assert_eq!(error.code().code(), "57014");
}
