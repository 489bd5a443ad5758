//! Faults that concern single messages.

use support::{GUARDS, apply, batch, message, rows, run, value};

use super::scene::{Scene, TABLE, statements};

fn item(action: &str, id: u64, lsn: u64, rest: &str) -> String {
    message(action, "item", lsn, &format!(r#"{{"id":{id}{rest}}}"#))
}

const LETTERS: &str =
    "select state, sqlstate, coalesce(hint, '') from sequin.dead_letter order by id";

/// A column that may not be null, for which the source sends null: no message helps, and the HINT does.
#[test]
fn not_null_that_the_source_does_not_have() {
    for guard in GUARDS {
        let mut scene = Scene::guarded("not_null", guard, TABLE, "");
        scene.send_well();
        run(
            &mut scene.admin,
            "alter table shop.item add extra text not null default ''; alter table shop.item alter name set not null",
        );
        for (id, action) in [(500, "insert"), (501, "read"), (1, "update")] {
            let null = item(action, id, 1000 + id, r#","name":null,"n":1,"extra":"x""#);
            assert_eq!(apply(&mut scene.forwarder, &null).dead, 1, "{action}");
        }
        let letters = rows(&mut scene.admin, LETTERS);
        assert_eq!(letters.len(), 3);
        assert!(
            letters
                .iter()
                .all(|l| l.starts_with("dead|23502|Run: ALTER TABLE shop.item")),
            "{letters:?}"
        );
        let status = scene.status();
        assert_eq!(status.state, "running");
        let hint = "select distinct hint from sequin.dead_letter";
        let hint = value(&mut scene.admin, hint);
        run(&mut scene.admin, &statements(&hint)[0]);
        let sql = "select id from shop.item where name is null order by id";
        assert_eq!(rows(&mut scene.admin, sql), ["1", "500", "501"]);
        let letters = "select count(*) from sequin.dead_letter";
        assert_eq!(value(&mut scene.admin, letters), "0");
    }
}

/// A column that may not be null, and that records do not have.
#[test]
fn not_null_that_records_lack() {
    for guard in GUARDS {
        let mut scene = Scene::guarded(
            "lacking",
            guard,
            &format!("{TABLE}; alter table shop.item add extra text not null"),
            "",
        );
        let messages = [
            item("insert", 1, 1, r#","name":"a","n":1"#),
            item("read", 2, 2, r#","name":"a","n":1"#),
            // An older insert does not bring it.
            item("update", 3, 3, r#","name":"a","n":1"#),
        ];
        assert_eq!(apply(&mut scene.forwarder, &batch(&messages)).dead, 3);
        let letters = rows(&mut scene.admin, LETTERS);
        assert!(
            letters.iter().all(|l| l.starts_with("dead|23502|Run: ")),
            "{letters:?}"
        );
        let hint = value(
            &mut scene.admin,
            "select distinct hint from sequin.dead_letter",
        );
        run(&mut scene.admin, &statements(&hint)[0]);
        let sql = "select id, name from shop.item order by id";
        assert_eq!(rows(&mut scene.admin, sql), ["1|a", "2|a", "3|a"]);
    }
}

/// The check tells of a column that no message fills, though the mapping can write.
#[test]
fn not_null_without_a_source() {
    let mut scene = Scene::guarded(
        "unfilled",
        "table",
        TABLE,
        r#", columns => '{"id": "record.id", "name": "record.name", "n": "record.n"}'"#,
    );
    run(
        &mut scene.admin,
        "alter table shop.item add extra text not null",
    );
    let told = scene.check();
    assert_eq!((&*told.state, &*told.sqlstate), ("running", "23502"));
    assert!(
        told.error.starts_with("mapping \"bad\": column \"extra\""),
        "{told:?}"
    );
    assert_eq!(scene.send().dead, 3);
    let letters = "select distinct state, sqlstate from sequin.dead_letter";
    assert_eq!(rows(&mut scene.admin, letters), ["dead|23502"]);
    let hint = value(
        &mut scene.admin,
        "select distinct hint from sequin.dead_letter",
    );
    run(&mut scene.admin, &statements(&hint)[0]);
    scene.is_complete("id, name, n");
    assert_eq!(scene.check().error, "");
}

/// What an older change may bring waits for it.
#[test]
fn not_null_that_an_older_change_brings() {
    for guard in ["columns", "table"] {
        let mut scene = Scene::guarded(
            "older",
            guard,
            &format!("{TABLE}; alter table shop.item add extra text not null"),
            "",
        );
        let forwarder = &mut scene.forwarder;
        let whole = |id, lsn| item("insert", id, lsn, r#","name":"a","n":1,"extra":"x""#);
        apply(forwarder, &whole(9, 1));
        // The value did not change.
        let toast = item(
            "update",
            1,
            20,
            r#","name":"b","n":2,"extra":"unchanged_toast""#,
        );
        assert_eq!(apply(forwarder, &toast).dead, 1);
        // The column was dropped at the source between the two.
        let dropped = item("update", 2, 21, r#","name":"b","n":2"#);
        assert_eq!(apply(forwarder, &dropped).dead, 1);
        let states = "select distinct state, sqlstate from sequin.dead_letter";
        assert_eq!(rows(&mut scene.admin, states), ["waiting|23502"]);
        let forwarder = &mut scene.forwarder;
        apply(forwarder, &batch(&[whole(1, 10), whole(2, 11)]));
        let sql = "select id, name, n, extra from shop.item where id < 9 order by id";
        assert_eq!(rows(&mut scene.admin, sql), ["1|b|2|x", "2|b|2|x"]);
        let letters = "select count(*) from sequin.dead_letter";
        assert_eq!(value(&mut scene.admin, letters), "0");
    }
}

/// One bad message in a hundred: the letters tell which and why.
#[test]
fn one_in_a_hundred() {
    let mut scene = Scene::new("one_percent", TABLE, "");
    let messages: Vec<String> = (1..=200)
        .map(|id| match id % 100 {
            0 => item("insert", id, id, r#","name":"a","n":"many""#),
            _ => item("insert", id, id, r#","name":"a","n":1"#),
        })
        .collect();
    let counts = apply(&mut scene.forwarder, &batch(&messages));
    assert_eq!((counts.upserted, counts.dead), (198, 2));
    let status = "select state, dead_letters_dead from sequin.status where name = 'bad'";
    assert_eq!(value(&mut scene.admin, status), "running|2");
    let letters = "select key, sqlstate, error, detail from sequin.dead_letter order by id";
    let letters = rows(&mut scene.admin, letters);
    assert!(
        letters[0].starts_with("[\"100\"]|22P02|invalid input syntax for type bigint"),
        "{letters:?}"
    );
    assert!(letters[0].contains("record.n"), "{letters:?}");
}

/// A column that the mapping does not name: what comes for it is told as drift, and nothing stops.
#[test]
fn an_unnamed_column_that_was_dropped() {
    let mut scene = Scene::new("unnamed", TABLE, "");
    scene.send_well();
    run(&mut scene.admin, "alter table shop.item drop n");
    scene.send_well();
    let status = "select state, drift from sequin.status where name = 'bad'";
    assert_eq!(
        value(&mut scene.admin, status),
        r#"running|{"not_taken": ["n"]}"#
    );
    scene.is_complete("id, name");
}

/// Another type: messages whose values it does not take are letters, which are applied when it does.
#[test]
fn a_type_that_was_changed() {
    let mut scene = Scene::new("type", TABLE, "");
    scene.send_well();
    run(
        &mut scene.admin,
        "alter table shop.item alter name type integer using 0",
    );
    assert_eq!(scene.send().dead, 3);
    scene.the_others_are_written();
    let letters =
        "select distinct state, sqlstate, error like '%integer%', hint from sequin.dead_letter";
    assert_eq!(
        rows(&mut scene.admin, letters),
        [
            "dead|22P02|t|If the source has such values, let the column take them (ALTER TABLE shop.item ALTER COLUMN name \
          TYPE …;) or compute it by SQL, then run: SELECT * FROM sequin.retry('bad');"
        ]
    );
    run(
        &mut scene.admin,
        "alter table shop.item alter name type text; select * from sequin.retry('bad')",
    );
    scene.send_well();
    let sql = "select count(*) from sequin.dead_letter";
    assert_eq!(value(&mut scene.admin, sql), "0");
}

/// A unique index that the source does not have: messages wait for the row that has the value, and say so.
#[test]
fn a_unique_index_that_the_source_does_not_have() {
    let mut scene = Scene::new("unique", TABLE, "");
    scene.send_well();
    run(
        &mut scene.admin,
        "create unique index one_n on shop.item (n)",
    );
    let same = [
        item("insert", 600, 600, r#","name":"a","n":7"#),
        item("insert", 601, 601, r#","name":"b","n":7"#),
    ];
    assert_eq!(apply(&mut scene.forwarder, &batch(&same)).dead, 1);
    let letters = "select l.mapping, l.sqlstate, l.hint from sequin.waiting l";
    let told = value(&mut scene.admin, letters);
    assert!(told.starts_with("bad|23505|"), "{told}");
    assert!(told.contains("one_n"), "{told}");
    run(
        &mut scene.admin,
        "drop index shop.one_n; select * from sequin.retry('bad')",
    );
    let sql = "select id from shop.item where n = 7 order by id";
    assert_eq!(rows(&mut scene.admin, sql), ["600", "601"]);
}

/// Checks that the source does not have, of the table and of a domain.
#[test]
fn a_check_that_the_source_does_not_have() {
    let mut scene = Scene::new(
        "check",
        "create domain shop.\"Small\" as bigint; create table shop.item (id integer primary key, name text, n shop.\"Small\")",
        "",
    );
    scene.send_well();
    for (id, (ddl, hint)) in [
        (
            "alter table shop.item add constraint \"No\" check (n < 0) not valid",
            "ALTER TABLE shop.item DROP CONSTRAINT \"No\";",
        ),
        (
            "alter domain shop.\"Small\" add constraint no check (value < 0) not valid",
            "ALTER DOMAIN shop.\"Small\" DROP CONSTRAINT no;",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        run(&mut scene.admin, ddl);
        let id = 700 + id as u64;
        let message = item("insert", id, id, r#","name":"a","n":7"#);
        assert_eq!(apply(&mut scene.forwarder, &message).dead, 1);
        let letter = value(&mut scene.admin, LETTERS);
        let wanted = format!(
            "dead|23514|If the source allows the value, run: {hint} SELECT * FROM sequin.retry('bad');"
        );
        assert!(letter.starts_with(&wanted), "{letter}");
        run(&mut scene.admin, &statements(&letter)[0]);
        assert_eq!(
            value(&mut scene.admin, "select count(*) from sequin.dead_letter"),
            "0"
        );
    }
    assert_eq!(
        value(
            &mut scene.admin,
            "select count(*) from shop.item where n = 7"
        ),
        "2"
    );
}

/// A partition that is not there any more.
#[test]
fn a_partition_that_was_detached() {
    let mut scene = Scene::new(
        "partition",
        "create table shop.item (id integer primary key, name text, n bigint) partition by range (id);
         create table shop.low partition of shop.item for values from (0) to (100);
         create table shop.high partition of shop.item for values from (100) to (1000)",
        "",
    );
    scene.send_well();
    run(
        &mut scene.admin,
        "alter table shop.item detach partition shop.high",
    );
    scene.send_well();
    let high = item("insert", 700, 700, r#","name":"a","n":7"#);
    assert_eq!(apply(&mut scene.forwarder, &high).dead, 1);
    let letter = value(&mut scene.admin, LETTERS);
    assert!(
        letter.starts_with("dead|23514|Create or attach a partition"),
        "{letter}"
    );
    run(
        &mut scene.admin,
        "alter table shop.item attach partition shop.high for values from (100) to (1000)",
    );
    let hint = value(&mut scene.admin, "select hint from sequin.dead_letter");
    run(&mut scene.admin, &statements(&hint)[0]);
    assert_eq!(
        value(
            &mut scene.admin,
            "select name from shop.item where id = 700"
        ),
        "a"
    );
}

/// A trigger that refuses every row: each message is dead, and tells what the trigger said.
#[test]
fn a_trigger_that_always_raises() {
    let mut scene = Scene::new(
        "trigger",
        &format!(
            "{TABLE}; create function shop.no() returns trigger language plpgsql as
             $$ begin raise exception 'not today' using hint = 'Come back tomorrow.'; end $$"
        ),
        "",
    );
    scene.send_well();
    run(
        &mut scene.admin,
        "create trigger no before insert or update or delete on shop.item for each row execute function shop.no()",
    );
    // The delete of a row that is not there fires no trigger.
    assert_eq!(scene.send().dead, 3);
    scene.the_others_are_written();
    let letters = "select distinct state, sqlstate, error, hint from sequin.dead_letter";
    assert_eq!(
        rows(&mut scene.admin, letters),
        ["dead|P0001|not today|Come back tomorrow."]
    );
    run(
        &mut scene.admin,
        "drop trigger no on shop.item; select * from sequin.retry('bad')",
    );
    scene.send_well();
    scene.is_complete("id, name, n");
}

/// What the destination refuses of a row, and what to run then: the HINT of the letter says so.
/// Values that a column of another type, or of another length, does not take.
#[test]
fn values_that_do_not_fit_have_a_hint() {
    let ddl = "create table shop.item (id integer primary key, name varchar(3), n smallint, at date, r numeric(3, 1), u uuid)";
    let mut scene = Scene::new("misfit", ddl, "");
    let messages = [
        item("insert", 1, 1, r#","name":"long""#),
        item("insert", 2, 2, r#","n":70000"#),
        item("insert", 3, 3, r#","at":"yesterday is no date""#),
        item("insert", 4, 4, r#","r":1000"#),
        item("insert", 5, 5, r#","u":"x""#),
        item("insert", 6, 6, r#","n":1.5"#),
        item("insert", 7, 7, r#","n":{"a":1}"#),
    ];
    assert_eq!(apply(&mut scene.forwarder, &batch(&messages)).dead, 7);
    let letters = rows(
        &mut scene.admin,
        "select sqlstate, hint like 'If the source has such values, let the column take them (ALTER TABLE shop.item ALTER COLUMN %'
             and hint like '%run: SELECT * FROM sequin.retry(''bad'');' from sequin.dead_letter order by position",
    );
    let codes = [
        "22001", "22003", "22007", "22003", "22P02", "22P02", "22P02",
    ];
    assert_eq!(letters, codes.map(|code| format!("{code}|t")));
}

#[test]
fn each_refusal_has_a_hint() {
    let mut scene = Scene::guarded(
        "refusals",
        "table",
        &format!(
            "{TABLE}; create type shop.mood as enum ('calm'); alter table shop.item add mood shop.mood;
             create function shop.refuses() returns trigger language plpgsql as $$ begin
                 if new.n = 13 and exists (select from shop.superstition) then raise exception 'no thirteen'; end if;
                 return new; end $$;
             create table shop.superstition as select 1 as n; grant select on shop.superstition to public;
             create trigger refuses before insert on shop.item for each row execute function shop.refuses()"
        ),
        "",
    );
    let owner = scene.owner.clone();
    run(
        &mut scene.admin,
        "alter table shop.item enable row level security;
         create policy one on shop.item using (n <> 7) with check (n <> 7)",
    );
    let messages = [
        item("insert", 1, 1, r#","name":"a","n":1,"mood":"it's calm""#),
        item("insert", 2, 2, r#","name":"a","n":13"#),
        item("insert", 3, 3, r#","name":"a","n":7"#),
    ];
    assert_eq!(apply(&mut scene.forwarder, &batch(&messages)).dead, 3);
    let letters = rows(
        &mut scene.admin,
        "select state, sqlstate, hint from sequin.dead_letter order by position",
    );
    let retry = "SELECT * FROM sequin.retry('bad');";
    assert_eq!(
        letters,
        [
            format!(
                "dead|22P02|If the source has the value, run: ALTER TYPE shop.mood ADD VALUE 'it''s calm'; {retry}"
            ),
            format!(
                "dead|P0001|Make right what the function refuses, or the function, then run: {retry}"
            ),
            format!(
                "dead|42501|The row is written as role {owner}. Let a policy of shop.item admit it, then run: {retry}"
            ),
        ]
    );
    let detail = "select detail from sequin.dead_letter where sqlstate = 'P0001'";
    assert_eq!(
        value(&mut scene.admin, detail),
        "It was raised in PL/pgSQL function shop.refuses() line 2 at RAISE."
    );
    run(
        &mut scene.admin,
        "alter type shop.mood add value 'it''s calm'",
    );
    run(
        &mut scene.admin,
        "delete from shop.superstition; create policy two on shop.item using (true)",
    );
    run(&mut scene.admin, retry);
    assert_eq!(
        rows(
            &mut scene.admin,
            "select id, mood from shop.item order by id"
        ),
        ["1|it's calm", "2|null", "3|null"]
    );
}
