//! A row whose key changes is updated: it keeps what only the destination has.

use postgres::Client;
use support::{Database, Message, rows, run, send, stale, value};

use super::{item, mapped};

const ALL: [&str; 3] = ["off", "columns", "table"];

const DDL: &str = "
    create table item (id integer primary key, name text, body text, local text default 'default');
    create table note (id integer primary key, item integer references item on update cascade on delete cascade);
    create table fired (n serial, said text);
    create function note() returns trigger language plpgsql as $$
    begin
        insert into public.fired (said) values (concat_ws(' ', lower(tg_op), old.id, new.id));
        return case tg_op when 'DELETE' then old else new end;
    end $$;
    create trigger note before insert or update or delete on item for each row execute function note()";

fn full(id: i64, name: &str, body: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}","body":"{body}"}}"#)
}

fn to(lsn: u64, idx: u64, from: i64, id: i64, name: &str) -> Message {
    item("update", lsn, full(id, name, "long"))
        .idx(idx)
        .changes(format!(r#"{{"id":{from}}}"#))
}

/// Three rows with what only the destination has.
fn three(test: &str, guard: &str) -> (support::Database, Client) {
    let (database, mut client) = mapped(test, DDL, guard);
    send(
        &mut client,
        &[1, 2, 3].map(|id| item("insert", 10, full(id, &format!("n{id}"), "long")).idx(id as u64)),
    );
    run(
        &mut client,
        "update item set local = 'local ' || id; insert into note values (10, 1), (20, 2), (30, 3); truncate fired",
    );
    (database, client)
}

fn state(client: &mut Client) -> Vec<String> {
    rows(
        client,
        "select i.id, i.name, i.local, n.id from item i left join note n on n.item = i.id order by i.id",
    )
}

fn fired(client: &mut Client) -> Vec<String> {
    rows(client, "select said from fired order by n")
}

#[test]
fn a_row_keeps_what_only_the_destination_has() {
    for guard in ALL {
        let (_database, mut client) = three("moves_one", guard);
        let counts = send(&mut client, &[to(20, 0, 1, 5, "five")]);
        assert_eq!(
            (counts.upserted, counts.dead),
            (1, 0),
            "{guard}: {counts:?}"
        );
        assert_eq!(
            state(&mut client),
            ["2|n2|local 2|20", "3|n3|local 3|30", "5|five|local 1|10"],
            "{guard}"
        );
        assert_eq!(fired(&mut client), ["update 1 5"], "{guard}");
        if guard != "off" {
            let late = [
                item("update", 15, full(1, "old", "long")),
                to(20, 0, 1, 5, "five"),
            ];
            assert_eq!(send(&mut client, &late), stale(2), "{guard}");
            assert_eq!(
                send(&mut client, &[item("update", 18, full(5, "old", "long"))]),
                stale(1)
            );
        }
    }
}

/// The server updates no identity that it always generates, so that the row is written anew.
#[test]
fn a_key_that_cannot_be_updated_keeps_it_too() {
    for guard in ALL {
        let (_database, mut client) = Database::mapped(
            "moves_identity",
            "create table item (id integer generated always as identity primary key, name text, own text default 'new')",
            &["item"],
            guard,
        );
        let of = |id: u64, name: &str| format!(r#"{{"id":{id},"name":"{name}"}}"#);
        let inserts = [
            item("insert", 10, of(1, "a")),
            item("insert", 10, of(2, "b")).idx(1),
        ];
        send(&mut client, &inserts);
        run(&mut client, "update item set own = name");
        send(
            &mut client,
            &[
                item("update", 20, of(5, "a")).changes(r#"{"id":1}"#),
                item("update", 20, of(6, "x"))
                    .changes(r#"{"id":2,"name":"b"}"#)
                    .idx(1),
            ],
        );
        assert_eq!(
            rows(&mut client, "select id, name, own from item order by id"),
            ["5|a|a", "6|x|b"],
            "{guard}"
        );
    }
}

#[test]
fn chains_and_shifts_keep_it_too() {
    let cases: [(&str, Vec<Message>, [&str; 3]); 6] = [
        (
            "a chain",
            vec![
                to(20, 0, 1, 5, "a"),
                to(21, 0, 5, 6, "b"),
                to(22, 0, 6, 7, "c"),
            ],
            ["2|n2|local 2|20", "3|n3|local 3|30", "7|c|local 1|10"],
        ),
        (
            "a chain, and an update",
            vec![
                to(20, 0, 1, 5, "a"),
                item("update", 21, full(5, "b", "long")),
            ],
            ["2|n2|local 2|20", "3|n3|local 3|30", "5|b|local 1|10"],
        ),
        (
            "a shift up",
            vec![
                to(20, 0, 3, 4, "c"),
                to(20, 1, 2, 3, "b"),
                to(20, 2, 1, 2, "a"),
            ],
            ["2|a|local 1|10", "3|b|local 2|20", "4|c|local 3|30"],
        ),
        (
            "a shift up of a deferrable key",
            vec![
                to(20, 0, 1, 2, "a"),
                to(20, 1, 2, 3, "b"),
                to(20, 2, 3, 4, "c"),
            ],
            ["2|a|local 1|10", "3|b|local 2|20", "4|c|local 3|30"],
        ),
        (
            "all go elsewhere",
            vec![
                to(20, 0, 1, 11, "a"),
                to(20, 1, 2, 12, "b"),
                to(20, 2, 3, 13, "c"),
            ],
            ["11|a|local 1|10", "12|b|local 2|20", "13|c|local 3|30"],
        ),
        (
            "into the place of a deleted row",
            vec![
                item("delete", 20, full(3, "n3", "long")),
                to(21, 0, 1, 3, "a"),
                to(22, 0, 2, 1, "b"),
            ],
            ["1|b|local 2|20", "3|a|local 1|10", ""],
        ),
    ];
    for guard in ALL {
        for (what, messages, then) in &cases {
            let then: Vec<&str> = then.iter().copied().filter(|row| !row.is_empty()).collect();
            for single in [false, true] {
                if single && *what == "a shift up of a deferrable key" {
                    continue;
                }
                let (_database, mut client) = three("moves_several", guard);
                for set in messages.chunks(if single { 1 } else { messages.len() }) {
                    assert_eq!(send(&mut client, set).dead, 0, "{guard} {what}");
                }
                let place = *what == "into the place of a deleted row";
                if place && !single {
                    let kept = "select id, name, local from item order by id";
                    assert_eq!(
                        rows(&mut client, kept),
                        ["1|b|local 2", "3|a|local 1"],
                        "{guard}"
                    );
                    continue;
                }
                assert_eq!(
                    state(&mut client),
                    then,
                    "{guard} {what}, one by one: {single}"
                );
                // An upsert fires the trigger before an insert, too.
                let inserted = fired(&mut client)
                    .iter()
                    .any(|said| said.starts_with("insert"));
                assert_eq!(
                    inserted,
                    single && *what == "a chain, and an update",
                    "{guard} {what}"
                );
            }
        }
    }
}

#[test]
fn rows_that_exchange_their_keys_have_the_right_values() {
    for guard in ALL {
        let (_database, mut client) = three("moves_swap", guard);
        let swap = [
            to(20, 0, 1, 99, "one"),
            to(20, 1, 2, 1, "two"),
            to(20, 2, 99, 2, "one"),
        ];
        assert_eq!(send(&mut client, &swap).dead, 0, "{guard}");
        assert_eq!(
            rows(&mut client, "select id, name, local from item order by id"),
            ["1|two|local 2", "2|one|local 1", "3|n3|local 3"],
            "{guard}"
        );
    }
}

#[test]
fn a_value_that_is_not_repeated_stays() {
    for guard in ALL {
        let (_database, mut client) = three("moves_toast", guard);
        let toast = item("update", 20, full(5, "five", "unchanged_toast"))
            .changes(r#"{"id":1}"#.to_owned());
        assert_eq!(send(&mut client, &[toast]).upserted, 1, "{guard}");
        assert_eq!(
            value(
                &mut client,
                "select body || ' ' || local from item where id = 5"
            ),
            "long local 1",
            "{guard}"
        );
        if guard == "off" {
            continue;
        }
        // a late change that is older than the value does not fill it, and one that is newer does
        assert_eq!(
            send(&mut client, &[item("update", 5, full(5, "x", "older"))]),
            stale(1),
            "{guard}"
        );
        send(&mut client, &[item("update", 15, full(5, "x", "newer"))]);
        assert_eq!(
            value(
                &mut client,
                "select name || ' ' || body from item where id = 5"
            ),
            "five newer",
            "{guard}"
        );
    }
}

#[test]
fn a_value_of_the_batch_that_is_not_repeated_goes_along() {
    for guard in ALL {
        for single in [false, true] {
            let (_database, mut client) = three("moves_batch_toast", guard);
            let toast = |lsn: u64, from: i64, id: i64| {
                item("update", lsn, full(id, "moved", "unchanged_toast"))
                    .changes(format!(r#"{{"id":{from}}}"#))
            };
            let messages = [
                item("update", 15, full(1, "one", "newest")),
                toast(20, 1, 5),
                toast(21, 5, 6),
            ];
            for set in messages.chunks(if single { 1 } else { 3 }) {
                assert_eq!(send(&mut client, set).dead, 0, "{guard}");
            }
            assert_eq!(
                rows(
                    &mut client,
                    "select id, name, body, local from item where id > 3"
                ),
                ["6|moved|newest|local 1"],
                "{guard}, one by one: {single}"
            );
        }
    }
}

#[test]
fn a_row_that_cannot_get_the_key_fails_alone() {
    for guard in ALL {
        let (_database, mut client) = three("moves_poison", guard);
        run(&mut client, "alter table item add check (name <> 'bad')");
        let counts = send(
            &mut client,
            &[
                to(20, 0, 1, 11, "a"),
                to(20, 1, 2, 12, "bad"),
                to(20, 2, 3, 13, "c"),
            ],
        );
        assert_eq!(
            (counts.upserted, counts.dead),
            (2, 1),
            "{guard}: {counts:?}"
        );
        assert_eq!(
            state(&mut client),
            ["2|n2|local 2|20", "11|a|local 1|10", "13|c|local 3|30"],
            "{guard}"
        );
        // and its letter is applied as an update
        run(
            &mut client,
            "alter table item drop constraint item_name_check; select sequin.retry()",
        );
        assert_eq!(state(&mut client)[1], "12|bad|local 2|20", "{guard}");
    }
}

#[test]
fn rows_that_a_mapping_writes_have_their_own_messages() {
    let actions = ["", "on update cascade on delete cascade"];
    for (guard, action) in ALL
        .iter()
        .flat_map(|guard| actions.map(|action| (*guard, action)))
    {
        let (_database, mut client) = three("moves_mapped", guard);
        run(
            &mut client,
            &format!(
                "alter table note drop constraint note_item_fkey,
                     add foreign key (item) references item {action}"
            ),
        );
        run(
            &mut client,
            &format!(
                "select sequin.map('public.note', 'note', guard => '{guard}', name => 'note')"
            ),
        );
        let child = |id: i64, parent: i64| {
            Message::new(
                "update",
                "note",
                20,
                format!(r#"{{"id":{id},"item":{parent}}}"#),
            )
            .idx(id as u64)
        };
        let counts = send(&mut client, &[to(20, 0, 1, 5, "five"), child(10, 5)]);
        assert_eq!(
            (counts.upserted, counts.dead),
            (2, 0),
            "{guard}: {counts:?}"
        );
        assert_eq!(
            rows(
                &mut client,
                "select i.id, i.local, n.id from item i left join note n on n.item = i.id order by 1"
            ),
            ["2|local 2|20", "3|local 3|30", "5|local 1|10"],
            "{guard}"
        );
    }
}
