//! Rows that refer to rows which are not there yet, or which must go first.

use support::{Database, GUARDS, Message, message, rows, run, send, value};

use super::{FAMILIES, FAMILY, LETTERS, retry};

#[test]
fn children_wait_for_their_parents() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("parents", FAMILY, FAMILIES, guard);
        let child = |id: u64, parent: u64| {
            let record = format!(r#"{{"id":{id},"parent_id":{parent},"name":"c"}}"#);
            message("insert", "child", 100 + id, &record)
        };
        let parent = |id: u64, grandparent: u64| {
            let record = format!(r#"{{"id":{id},"grandparent_id":{grandparent},"name":"p"}}"#);
            message("insert", "parent", 50 + id, &record)
        };
        let counts = send(
            &mut client,
            &[child(1, 10), child(2, 20), parent(10, 7), child(3, 30)],
        );
        assert_eq!(counts.dead, 4, "{guard}");
        // A parent of other rows changes nothing, and a call counts only its own messages.
        run(&mut client, "insert into grandparent values (9)");
        assert_eq!(send(&mut client, &[parent(99, 9)]).upserted, 1, "{guard}");
        assert_eq!(
            value(&mut client, "select sum(attempts) from sequin.dead_letter"),
            "4",
            "{guard}: none of them was tried"
        );
        // The grandparent frees the parent, and the parent frees the child, in one call.
        let grandparent = message("insert", "grandparent", 7, r#"{"id":7,"name":"g"}"#);
        let counts = send(&mut client, &[grandparent]);
        assert_eq!((counts.upserted, counts.dead), (1, 0), "{guard}");
        assert_eq!(
            rows(&mut client, "select id, parent_id from child order by id"),
            ["1|10"],
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, LETTERS),
            [
                "waiting|23503|[\"2\"]".to_owned(),
                "waiting|23503|[\"3\"]".to_owned()
            ],
            "{guard}"
        );
        // Another session made its parent: the letter is tried when somebody retries it.
        run(&mut client, "insert into parent values (30, 9), (20, 9)");
        assert_eq!(retry(&mut client, "'child'"), "2|2|0|0", "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from child"),
            "3",
            "{guard}"
        );
    }
}

#[test]
fn a_parent_waits_until_its_children_are_gone() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("leave", FAMILY, FAMILIES, guard);
        run(&mut client, "insert into grandparent values (1)");
        send(
            &mut client,
            &[
                message(
                    "insert",
                    "parent",
                    1,
                    r#"{"id":1,"grandparent_id":1,"name":"p"}"#,
                ),
                message("insert", "child", 2, r#"{"id":1,"parent_id":1,"name":"c"}"#),
            ],
        );
        let delete = message(
            "delete",
            "parent",
            4,
            r#"{"id":1,"grandparent_id":null,"name":null}"#,
        );
        assert_eq!(send(&mut client, &[delete]).dead, 1, "{guard}");
        assert_eq!(
            rows(&mut client, LETTERS),
            ["waiting|23503|[\"1\"]"],
            "{guard}"
        );
        let delete = message(
            "delete",
            "child",
            3,
            r#"{"id":1,"parent_id":null,"name":null}"#,
        );
        assert_eq!(send(&mut client, &[delete]).deleted, 1, "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from parent"),
            "0",
            "{guard}"
        );
    }
}

/// Tables that refer to each other, and a table that refers to itself.
#[test]
fn rows_in_a_circle_wait_for_each_other() {
    let ddl = "
        create table head (id integer primary key, tail_id integer not null);
        create table tail (id integer primary key, head_id integer not null references head deferrable);
        alter table head add foreign key (tail_id) references tail deferrable;
        create table node (id integer primary key, next integer references node);";
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("circle", ddl, &["head", "tail", "node"], guard);
        send(
            &mut client,
            &[message("insert", "head", 1, r#"{"id":1,"tail_id":2}"#)],
        );
        send(
            &mut client,
            &[message("insert", "node", 1, r#"{"id":1,"next":2}"#)],
        );
        assert_eq!(rows(&mut client, LETTERS).len(), 2, "{guard}");
        send(
            &mut client,
            &[message("insert", "node", 2, r#"{"id":2,"next":1}"#)],
        );
        assert_eq!(
            rows(&mut client, "select id, next from node order by id"),
            ["1|2", "2|1"],
            "{guard}"
        );
        send(
            &mut client,
            &[message("insert", "tail", 2, r#"{"id":2,"head_id":1}"#)],
        );
        assert_eq!(
            rows(
                &mut client,
                "select head.id, tail.id from head join tail on tail_id = tail.id"
            ),
            ["1|2"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// A key that moves, with the letter of its arrival, under REPLICA IDENTITY FULL.
#[test]
fn a_key_change_waits_as_one() {
    for guard in ["columns", "table"] {
        let ddl = "create table parent (id integer primary key);
                   create table item (id integer primary key, parent_id integer references parent, slug text)";
        let (_database, mut client) = Database::mapped("moves", ddl, &["parent", "item"], guard);
        let of =
            |id: u64, parent: &str| format!(r#"{{"id":{id},"parent_id":{parent},"slug":"a"}}"#);
        send(&mut client, &[message("insert", "item", 1, &of(1, "null"))]);
        let moved = Message::new("update", "item", 2, of(2, "7"))
            .changes(r#"{"id":1,"parent_id":null}"#)
            .to_string();
        let counts = send(&mut client, &[moved]);
        assert_eq!(counts.dead, 1, "{guard}");
        assert_eq!(rows(&mut client, "select id from item"), ["1"], "{guard}");
        send(
            &mut client,
            &[message("insert", "parent", 3, r#"{"id":7}"#)],
        );
        assert_eq!(
            rows(&mut client, "select id, parent_id from item"),
            ["2|7"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// A change that waits may be the only one with a value that the row lacks.
#[test]
fn a_letter_fills_a_gap_when_its_row_comes() {
    for guard in ["columns", "table"] {
        let ddl = "create table parent (id integer primary key);
                   create table item (id integer primary key, parent_id integer references parent, body text)";
        let (_database, mut client) = Database::mapped("gap", ddl, &["parent", "item"], guard);
        send(
            &mut client,
            &[message("insert", "parent", 1, r#"{"id":5}"#)],
        );
        let of =
            |parent: u64, body: &str| format!(r#"{{"id":1,"parent_id":{parent},"body":"{body}"}}"#);
        assert_eq!(
            send(&mut client, &[message("insert", "item", 2, &of(9, "big"))]).dead,
            1,
            "{guard}"
        );
        send(
            &mut client,
            &[message("update", "item", 3, &of(5, "unchanged_toast"))],
        );
        assert_eq!(
            rows(&mut client, "select parent_id, body from item"),
            ["5|big"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// However many wait for a row.
#[test]
fn all_that_wait_for_a_row_are_tried() {
    let ddl = "create table parent (id integer primary key);
               create table item (id integer primary key, parent_id integer references parent)";
    let (_database, mut client) = Database::mapped("many", ddl, &["parent", "item"], "table");
    let items: Vec<String> = (1..=2500)
        .map(|id| {
            message(
                "insert",
                "item",
                id,
                &format!(r#"{{"id":{id},"parent_id":1}}"#),
            )
        })
        .collect();
    assert_eq!(send(&mut client, &items).dead, 2500);
    let patient = "set sequin.heal_time = '1min'";
    client.batch_execute(patient).expect(patient);
    send(
        &mut client,
        &[message("insert", "parent", 9000, r#"{"id":1}"#)],
    );
    // As many as the time of a call allows; the next calls go on, whatever they are for.
    for i in 2..200 {
        if value(&mut client, "select count(*) from item") == "2500" {
            break;
        }
        let parent = format!(r#"{{"id":{i}}}"#);
        send(
            &mut client,
            &[message("insert", "parent", 9000 + i, &parent)],
        );
    }
    assert_eq!(value(&mut client, "select count(*) from item"), "2500");
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
}

/// A trigger that makes a schema or changes many relations must not look like a change of mappings.
#[test]
fn triggers_that_change_the_catalog() {
    let ddl = "
        create table parent (id integer primary key);
        create table child (id integer primary key, parent_id integer references parent);
        create function many() returns trigger language plpgsql as $$
        begin
            for n in 1..300 loop
                execute format('create temp table %I (n integer)', 'scratch ' || new.id || ' ' || n);
            end loop;
            return new;
        end $$;
        create trigger many before insert on child for each row execute function many()";
    for guard in GUARDS {
        let (database, mut client) = Database::mapped("catalog", ddl, &["parent", "child"], guard);
        let child = |id: u64, parent: u64| {
            let record = format!(r#"{{"id":{id},"parent_id":{parent}}}"#);
            message("insert", "child", id, &record)
        };
        let mut fresh = database.connect();
        let counts = send(&mut fresh, &[child(1, 10), child(2, 20)]);
        assert_eq!(counts.dead, 2, "{guard}");
        let waits = "select distinct waits_on from sequin.dead_letter";
        assert_eq!(rows(&mut client, waits), ["parent"], "{guard}");
        let parent = |id: u64| message("insert", "parent", id, &format!(r#"{{"id":{id}}}"#));
        assert_eq!(send(&mut fresh, &[parent(10), parent(20)]).upserted, 2);
        assert_eq!(value(&mut client, "select count(*) from child"), "2");
    }
}

/// What is tried once more when a table falls back to older changes of its rows are the messages that wait, also where
/// rows have no key.
#[test]
fn appended_rows_that_wait_are_not_written_twice() {
    let ddl = "
        create table p (id integer primary key);
        create table log (pid integer references p, note text);
        create table t (id integer primary key, pid integer references p)";
    let (_database, mut client) = Database::mapped("append_waits", ddl, &["p", "t"], "table");
    run(
        &mut client,
        "insert into p values (1); select sequin.map('public.log', 'log', mode => 'append')",
    );
    let log = |lsn, pid: u64| {
        let record = format!(r#"{{"pid":{pid},"note":"{lsn}"}}"#);
        message("insert", "log", lsn, &record)
    };
    let t =
        |action, lsn, pid: u64| message(action, "t", lsn, &format!(r#"{{"id":1,"pid":{pid}}}"#));
    let counts = send(
        &mut client,
        &[log(1, 1), log(2, 9), t("insert", 3, 1), t("update", 4, 9)],
    );
    assert_eq!((counts.upserted, counts.dead), (2, 2));
    assert_eq!(rows(&mut client, "select pid, note from log"), ["1|1"]);
    assert_eq!(
        rows(
            &mut client,
            "select state, sqlstate from sequin.dead_letter"
        ),
        ["waiting|23503", "waiting|23503"]
    );
    let parent = message("insert", "p", 5, r#"{"id":9}"#);
    send(&mut client, &[parent]);
    assert_eq!(
        rows(&mut client, "select pid, note from log order by note"),
        ["1|1", "9|2"]
    );
    assert_eq!(rows(&mut client, "select id, pid from t"), ["1|9"]);
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
}

/// The key of a mapping may be a unique index of columns that can be null. A local row with a null there, which no message
/// can mean, is in the way as any other.
#[test]
fn rows_with_a_null_in_the_key_are_in_the_way() {
    let ddl = "create table parent (id integer primary key);
               create table item (code text unique, parent_id integer references parent);
               create table pair (a integer, b text, slug text unique, unique (a, b))";
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("null_keys", ddl, &["parent"], guard);
        run(
            &mut client,
            &format!(
                "select sequin.map('public.item', 'item', key => '{{code}}', guard => '{guard}');
                 select sequin.map('public.pair', 'pair', key => '{{a,b}}', guard => '{guard}')"
            ),
        );
        let parent = |action: &str, lsn: u64| message(action, "parent", lsn, r#"{"id":1}"#);
        send(&mut client, &[parent("insert", 1)]);
        run(
            &mut client,
            "insert into item values (null, 1); insert into pair values (5, null, 'x')",
        );
        let pair = message("insert", "pair", 2, r#"{"a":6,"b":"y","slug":"x"}"#);
        let counts = send(&mut client, &[parent("delete", 3), pair]);
        assert_eq!(counts.dead, 2, "{guard}");
        let waits =
            "select mapping || '|' || state || '|' || sqlstate from sequin.dead_letter order by id";
        assert_eq!(
            rows(&mut client, waits),
            ["parent|waiting|23503", "pair|waiting|23505"],
            "{guard}"
        );
        run(&mut client, "delete from item; update pair set slug = null");
        retry(&mut client, "");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        assert_eq!(value(&mut client, "select count(*) from parent"), "0");
        assert_eq!(
            rows(&mut client, "select a, slug from pair order by a"),
            ["5|null", "6|x"],
            "{guard}"
        );
    }
}

/// Rows that miss their parents, or that others refer to, are found by one query: few statements, and each letter
/// names its own values.
#[test]
fn many_rows_that_wait_take_few_statements() {
    const TABLES: &str = "
        create table p (a int, b text, primary key (a, b));
        create table c (id int primary key, y text, x int, foreign key (y, x) references p (b, a));
        create table n (id int primary key, up int references n);
        create sequence statements;
        create function count_statement() returns trigger language plpgsql as
            $$begin perform nextval('public.statements'); return null; end$$;
        create trigger t before insert or delete on p for each statement execute function count_statement();
        create trigger t before insert or delete on c for each statement execute function count_statement();
        create trigger t before insert or delete on n for each statement execute function count_statement();";
    const DETAILS: &str = "select key || ' ' || detail from sequin.dead_letter order by id";
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("many", TABLES, &["p", "c", "n"], guard);
        let statements = |client: &mut _| -> i64 {
            let count = value(client, "select nextval('statements')");
            count.parse().expect("a number")
        };
        let child = |id: u64| {
            let parent = if id.is_multiple_of(10) { 1 } else { id };
            let record = format!(r#"{{"id":{id},"y":"b, {parent}","x":{parent}}}"#);
            message("insert", "c", 100 + id, &record)
        };
        run(&mut client, "insert into p values (1, 'b, 1')");
        let before = statements(&mut client);
        let children: Vec<String> = (100..300).map(child).collect();
        let counts = send(&mut client, &children);
        assert_eq!((counts.upserted, counts.dead), (20, 180), "{guard}");
        let details = rows(&mut client, DETAILS);
        for (letter, id) in details.iter().zip((100..300).filter(|id| id % 10 != 0)) {
            let detail =
                format!(r#"["{id}"] Key (y, x)=(b, {id}, {id}) is not present in table "p"."#);
            assert_eq!(*letter, detail, "{guard}");
        }
        assert!(statements(&mut client) - before < 20, "{guard}");

        run(&mut client, "delete from sequin.dead_letter");
        run(
            &mut client,
            "insert into p select i, 'b, ' || i from generate_series(2, 300) i",
        );
        send(&mut client, &children);
        let before = statements(&mut client);
        let parents = (101..200).map(|id| {
            let record = format!(r#"{{"a":{id},"b":"b, {id}"}}"#);
            message("delete", "p", 1_000 + id, &record)
        });
        let counts = send(&mut client, &parents.collect::<Vec<String>>());
        assert_eq!((counts.deleted, counts.dead), (9, 90), "{guard}");
        let details = rows(&mut client, DETAILS);
        assert_eq!(
            details[0],
            r#"["101", "b, 101"] Key (b, a)=(b, 101, 101) is still referenced from table "c"."#
                .replace(", \"b", ",\"b"),
            "{guard}"
        );
        assert!(statements(&mut client) - before < 20, "{guard}");

        run(&mut client, "delete from sequin.dead_letter");
        let before = statements(&mut client);
        let nodes = (1..100).map(|id| {
            let record = format!(r#"{{"id":{id},"up":{}}}"#, 1_000 + id);
            message("insert", "n", 2_000 + id, &record)
        });
        send(&mut client, &nodes.collect::<Vec<String>>());
        let details = rows(&mut client, DETAILS);
        assert_eq!(details.len(), 99, "{guard}");
        for (letter, id) in details.iter().zip(1..100) {
            let up = 1_000 + id;
            let detail = format!(r#"["{id}"] Key (up)=({up}) is not present in table "n"."#);
            assert_eq!(*letter, detail, "{guard}");
        }
        assert!(statements(&mut client) - before < 20, "{guard}");
    }
}
