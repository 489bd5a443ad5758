//! How often a message is kept and counted.

use support::{Database, GUARDS, apply, batch, message, rows, run};

/// The text identifies a message whose row is unknown.
#[test]
fn what_comes_again_is_kept_once() {
    let ddl = "create table item (id integer primary key, name text check (name <> 'no'));
               create table log (id integer, name text check (name <> 'no'))";
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("again", ddl, &["item"], guard);
        run(
            &mut client,
            "select sequin.map('public.log', 'log', mode => 'append', name => 'log');
             select sequin.map('public.log', 'item', guard => 'off', name => 'second')",
        );
        let batch = batch(&[
            message("insert", "item", 1, r#"{"id":1,"name":"no"}"#),
            message("insert", "item", 2, r#"{"id":"one","name":"a"}"#),
            message("insert", "item", 3, r#"{"name":"no key"}"#),
            message("insert", "log", 4, r#"{"id":1,"name":"no"}"#),
            message("insert", "log", 5, r#"{"id":2,"name":"no"}"#),
            message("insert", "stranger", 6, r#"{"id":1}"#),
            "1".to_owned(),
            "{}".to_owned(),
        ]);
        for times in 1..=3 {
            assert_eq!(apply(&mut client, &batch).dead, 10, "{guard}");
            assert_eq!(
                rows(
                    &mut client,
                    "select mapping, count(*), min(attempts), max(attempts) from sequin.dead_letter
                     group by mapping order by mapping nulls last"
                ),
                [
                    format!("item|3|{times}|{times}"),
                    format!("log|2|{times}|{times}"),
                    format!("second|2|{times}|{times}"),
                    format!("null|3|{times}|{times}"),
                ],
                "{guard}"
            );
        }
    }
}

#[test]
fn equal_garbage_of_one_batch_is_kept_once() {
    let database = Database::new("garbage");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let stranger = message("insert", "stranger", 6, r#"{"id":1}"#);
    let read = message("read", "stranger", 6, r#"{"id":1}"#);
    let letters = batch(&["{}", "1", &stranger, "{}", &read, "{}", &stranger, &read]);
    for times in 1..=2 {
        assert_eq!(apply(&mut client, &letters).dead, 8);
        let kept = "select attempts, message like '%\"read\"%' from sequin.dead_letter order by id";
        assert_eq!(
            rows(&mut client, kept),
            [(3, 'f'), (1, 'f'), (2, 'f'), (2, 't')]
                .map(|(came, read)| format!("{}|{read}", came * times))
        );
    }
}

/// A letter that is applied is not counted with the batch; stale messages of the batch are.
/// The content identifies it, however it is spelled: in each form of `sequin_apply`, and with other white space.
#[test]
fn one_content_is_kept_once() {
    let ddl = "create table item (id integer primary key, name text)";
    let (_database, mut client) = Database::mapped("content", ddl, &["item"], "table");
    run(&mut client, "set client_min_messages = error");
    let stranger = message("insert", "stranger", 6, r#"{"id":1}"#);
    let no_key = message("insert", "item", 6, r#"{"name":"a"}"#);
    let bad_read = message("read", "item", 6, r#"{"id":5,"name":{"a":"\u0001"},"x":1}"#);
    for garbage in [
        "{}",
        r#"{"b": 1, "a": [1, "é", 2.50]}"#,
        "7",
        &stranger,
        &no_key,
        &bad_read,
    ] {
        run(
            &mut client,
            "delete from sequin.dead_letter; alter table item drop constraint if exists c",
        );
        run(
            &mut client,
            "alter table item add constraint c check (name is null)",
        );
        let spaced = garbage.replace("\":", "\" :  ").replace(",\"", " ,\n \"");
        for (n, batch) in [
            format!("${{m}}${garbage}${{m}}$"),
            format!("${{m}}${garbage}${{m}}$::jsonb"),
            format!("array[${{m}}${spaced}${{m}}$]"),
            format!("${{m}}$[{garbage},{spaced}]${{m}}$"),
        ]
        .into_iter()
        .enumerate()
        {
            let batch = batch.replace("${m}$", "$m$");
            run(&mut client, &format!("select sequin_apply({batch})"));
            let times = [1, 2, 3, 5][n];
            let kept = rows(&mut client, "select attempts from sequin.dead_letter");
            match garbage == bad_read {
                // a letter of a row counts calls
                true => assert_eq!(kept.len(), 1, "{batch}: {kept:?}"),
                false => assert_eq!(kept, [times.to_string()], "{batch}"),
            }
        }
    }
    // what is no jsonb is told by its text
    for text in ["[{", r#"{"a":"\u0000"}"#] {
        run(&mut client, "delete from sequin.dead_letter");
        for _ in 0..2 {
            run(
                &mut client,
                &format!("select sequin_apply(array[$m${text}$m$])"),
            );
        }
        assert_eq!(
            rows(&mut client, "select attempts from sequin.dead_letter"),
            ["2"],
            "{text}"
        );
    }
}

#[test]
fn a_letter_takes_no_outcome_of_the_batch() {
    let database = Database::new("letter_outcome");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let ddl = "
        create table node (id bigint primary key, parent bigint references node);
        select sequin.map('public.node', 'node', guard => 'columns')";
    run(&mut client, ddl);
    let node = |lsn, id: u64, parent: &str| {
        let record = format!(r#"{{"id": {id}, "parent": {parent}}}"#);
        message("insert", "node", lsn, &record)
    };
    apply(
        &mut client,
        &batch(&[node(50, 2, "null"), node(20, 9, "5")]),
    );
    let counts = apply(
        &mut client,
        &batch(&[node(10, 2, "null"), node(30, 5, "null")]),
    );
    assert_eq!((counts.upserted, counts.stale, counts.dead), (1, 1, 0));
    let found = rows(&mut client, "select id, parent from node order by id");
    assert_eq!(found, ["2|null", "5|null", "9|5"]);
}
