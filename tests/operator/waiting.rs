//! `sequin.waiting` and `waiting_roots`: what waits for what, in words.

use support::{Database, message, rows, run, send, value};

const FAMILY: &str = "
    create table parent (id bigint primary key, code text unique, name text);
    create table child (id integer primary key, parent_id bigint references parent, slug text unique);
    create table toy (id uuid primary key, child_id integer references child);
    create table pair (a integer, b text, primary key (a, b));
    create table leg (id integer primary key, a integer, b text, foreign key (a, b) references pair);
    create table coded (id integer primary key, code text references parent(code));";

fn child(id: u64, lsn: u64, parent: &str) -> String {
    let record = format!(r#"{{"id":{id},"parent_id":{parent},"slug":"s{id}"}}"#);
    message("insert", "child", lsn, &record)
}

fn toy(id: u64, lsn: u64, child: u64) -> String {
    let record =
        format!(r#"{{"id":"00000000-0000-4000-8000-0000000000{id:02}","child_id":{child}}}"#);
    message("insert", "toy", lsn, &record)
}

const WAITING: &str = "select mapping, key, waits_on, waits_for, waits_for_letter, behind
                       from sequin.waiting order by letter";
const ROOTS: &str = "select name, dead_letters_waiting, waiting_roots from sequin.status
                     where dead_letters_waiting > 0 order by 1";

#[test]
fn what_waits_says_for_what() {
    let tables = ["parent", "child", "toy", "pair", "leg", "coded"];
    let (_database, mut client) = Database::mapped("waiting", FAMILY, &tables, "off");
    send(
        &mut client,
        &[
            child(1, 1, "7"),
            child(2, 2, "7"),
            toy(10, 3, 1),
            toy(11, 4, 1),
        ],
    );
    send(
        &mut client,
        &[
            message("insert", "leg", 5, r#"{"id":1,"a":5,"b":"x y"}"#),
            message("insert", "coded", 6, r#"{"id":1,"code":"é"}"#),
        ],
    );
    assert_eq!(
        rows(&mut client, WAITING),
        [
            "child|[\"1\"]|parent|(id)=(7)|null|2",
            "child|[\"2\"]|parent|(id)=(7)|null|0",
            "toy|[\"00000000-0000-4000-8000-000000000010\"]|child|(id)=(1)|1|0",
            "toy|[\"00000000-0000-4000-8000-000000000011\"]|child|(id)=(1)|1|0",
            "leg|[\"1\"]|pair|(a, b)=(5, x y)|null|0",
            "coded|[\"1\"]|parent|(code)=(é)|null|0",
        ]
    );
    assert_eq!(
        rows(&mut client, ROOTS),
        ["child|2|2", "coded|1|1", "leg|1|1", "toy|2|0"]
    );
    let hint = value(
        &mut client,
        "select hint from sequin.waiting where letter = 1",
    );
    assert_eq!(
        hint,
        "It is applied when a message brings row (id)=(7) of table public.parent, to which constraint \
         \"child_parent_id_fkey\" refers. If none will, make it right by hand and run: SELECT * FROM \
         sequin.retry('child');"
    );
    send(
        &mut client,
        &[
            message("insert", "parent", 7, r#"{"id":7,"code":"é","name":"n"}"#),
            message("insert", "pair", 8, r#"{"a":5,"b":"x y"}"#),
        ],
    );
    assert_eq!(rows(&mut client, WAITING), [""; 0]);
    assert_eq!(rows(&mut client, ROOTS), [""; 0]);
}

#[test]
fn the_holder_of_a_value_and_a_row_that_is_referred_to() {
    let (_database, mut client) =
        Database::mapped("waiting_held", FAMILY, &["parent", "child"], "off");
    send(
        &mut client,
        &[
            message("insert", "parent", 1, r#"{"id":-3,"code":"a","name":"n"}"#),
            child(5, 2, "-3"),
        ],
    );
    send(
        &mut client,
        &[
            message(
                "insert",
                "child",
                3,
                r#"{"id":6,"parent_id":null,"slug":"s5"}"#,
            ),
            message("delete", "parent", 4, r#"{"id":-3,"code":"a","name":"n"}"#),
        ],
    );
    assert_eq!(
        rows(
            &mut client,
            "select mapping, sqlstate, waits_on, waits_for, hint from sequin.waiting order by letter"
        ),
        [
            "child|23505|child|(id)=(5)|It is applied when a message deletes or changes row (id)=(5) of table \
             public.child, which constraint \"child_slug_key\" does not allow beside it. Rows can always exchange \
             values if the constraint is DEFERRABLE. If none will, make it right by hand and run: \
             SELECT * FROM sequin.retry('child');",
            "parent|23503|child|(id)=(5)|It is applied when a message deletes or changes row (id)=(5) of table \
             public.child, which refers to it by constraint \"child_parent_id_fkey\". If none will, make it right \
             by hand and run: SELECT * FROM sequin.retry('parent');",
        ]
    );
}

/// Keys of rows of a table that the letter's owner can neither read nor write are not told; members of pg_monitor
/// see that something waits, and no contents.
#[test]
fn keys_of_others_are_not_told() {
    let mut database = Database::new("waiting_owners");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let (alice, bob, monitor) = (
        database.role("alice"),
        database.role("bob"),
        database.role("monitor"),
    );
    run(
        &mut client,
        &format!(
            "grant execute on function sequin.map to {alice}, {bob};
             grant select on sequin.mapping, sequin.dead_letter to {alice}, {bob};
             select sequin.grant_source('*.*', '{alice}'); select sequin.grant_source('*.*', '{bob}');
             grant pg_monitor to {monitor};
             create table parent (id integer primary key);
             create table child (id integer primary key, parent_id integer references parent);
             grant select, insert, update, delete on parent to {alice};
             grant select, insert, update, delete on child to {bob}"
        ),
    );
    for (role, table) in [(&alice, "parent"), (&bob, "child")] {
        let mut client = database.connect_as(role);
        run(&mut client, "set client_min_messages = error");
        run(
            &mut client,
            &format!(
                "select sequin.map('public.{table}', '{table}', name => '{table}', guard => 'table')"
            ),
        );
    }
    let record = |id: u64| format!(r#"{{"id":{id}}}"#);
    send(&mut client, &[message("insert", "parent", 1, &record(1))]);
    send(
        &mut client,
        &[message("insert", "child", 2, r#"{"id":777,"parent_id":1}"#)],
    );
    send(&mut client, &[message("delete", "parent", 3, &record(1))]);
    send(
        &mut client,
        &[message(
            "insert",
            "child",
            4,
            r#"{"id":778,"parent_id":888}"#,
        )],
    );
    let mut of_alice = database.connect_as(&alice);
    let waiting =
        "select mapping, key, waits_on, waits_for, hint ~ '\\m(777|888)\\M' from sequin.waiting";
    assert_eq!(
        rows(&mut of_alice, waiting),
        ["parent|[\"1\"]|child|null|f"]
    );
    // Not in the whole row: its times and hashes have digits too.
    let letter = "select l.waits_for_key, concat_ws(' ', l.key, l.error, l.detail, l.hint) ~ '\\m(777|888)\\M'
                  from sequin.dead_letter l";
    assert_eq!(rows(&mut of_alice, letter), ["null|f"]);
    let mut of_bob = database.connect_as(&bob);
    assert_eq!(
        rows(&mut of_bob, waiting),
        ["child|[\"778\"]|parent|null|f"]
    );
    let mut of_monitor = database.connect_as(&monitor);
    assert_eq!(
        rows(
            &mut of_monitor,
            "select mapping, coalesce(key, error, detail, hint, waits_for), sqlstate, waits_on, behind
             from sequin.waiting order by 1"
        ),
        ["child|null|23503|parent|0", "parent|null|23503|child|0"]
    );
    // Who may read the table may know.
    run(
        &mut client,
        &format!("grant select on child to {alice}; select count(*) from sequin.retry()"),
    );
    assert_eq!(
        rows(&mut of_alice, waiting),
        ["parent|[\"1\"]|child|(id)=(777)|t"]
    );
    run(
        &mut client,
        "alter table child enable row level security; create policy p on child using (true);
         select count(*) from sequin.retry()",
    );
    assert_eq!(
        rows(&mut of_alice, waiting),
        ["parent|[\"1\"]|child|null|f"]
    );
}

/// Texts, numbers, times, names and hashes as keys.
#[test]
fn keys_of_all_types_in_words() {
    for (type_name, value, words) in [
        ("smallint", "-5", Some("-5")),
        ("text", "\"o'x\"", Some("o'x")),
        ("date", "\"2024-02-29\"", Some("2024-02-29")),
        ("boolean", "false", Some("f")),
        ("bytea", "\"\\\\x00ff\"", Some("\\x00ff")),
        (
            "uuid",
            "\"0a000000-0000-4000-8000-000000000001\"",
            Some("0a000000-0000-4000-8000-000000000001"),
        ),
        ("mood", "\"sad\"", Some("sad")),
        ("positive", "7", Some("7")),
        ("numeric", "1.5", None),
    ] {
        let ddl = format!(
            "create type mood as enum ('sad', 'ok'); create domain positive as bigint check (value > 0);
             create table parent (\"Id\" {type_name} primary key);
             create table child (id integer primary key, p {type_name} references parent)"
        );
        let (_database, mut client) =
            Database::mapped("waiting_types", &ddl, &["parent", "child"], "off");
        let record = format!(r#"{{"id":1,"p":{value}}}"#);
        send(&mut client, &[message("insert", "child", 1, &record)]);
        let wanted = words.map_or("null".to_owned(), |words| format!("(\"Id\")=({words})"));
        assert_eq!(
            rows(&mut client, "select waits_for_key from sequin.dead_letter"),
            [wanted],
            "{type_name}"
        );
    }
}
