//! `sequin.explain` of batches and mappings.

use postgres::Client;
use support::{Database, Message, Random, apply, batch, error, message, rows, run, value};

use super::insert;

/// What `sequin.explain` says of a batch, as the server spells it.
fn explained(client: &mut Client, batch: &str) -> Vec<String> {
    let quoted = batch.replace('\'', "''");
    rows(
        client,
        &format!(
            "select position, mapping, key, outcome, sqlstate, before - versions, after - versions
             from sequin.explain(batch => '{quoted}'),
                  (values ('{{sequin_lsn,sequin_idx,sequin_committed_at}}'::text[])) v(versions)"
        ),
    )
}

/// What `sequin.explain` says of the batch below.
fn expected(guard: &str) -> Vec<String> {
    let (late, stale, read) = match guard {
        "off" => (
            "collapsed",
            "upserted",
            r#"{"n": 1, "id": 4, "name": "late read"}"#,
        ),
        _ => ("stale", "stale", r#"{"n": 13, "id": 4, "name": "four"}"#),
    };
    vec![
        r#"0|item|["5"]|upserted|null|null|{"n": 20, "id": 5, "name": "five"}"#.to_owned(),
        r#"1|item|["1"]|collapsed|null|{"n": 10, "id": 1, "name": "one"}|{"n": 23, "id": 1, "name": "eins"}"#.to_owned(),
        r#"2|item|["2"]|deleted|null|{"n": 11, "id": 2, "name": "two"}|null"#.to_owned(),
        format!(r#"3|item|["3"]|{late}|null|{{"n": 12, "id": 3, "name": "three"}}|null"#),
        r#"4|item|["1"]|upserted|null|{"n": 10, "id": 1, "name": "one"}|{"n": 23, "id": 1, "name": "eins"}"#.to_owned(),
        format!(r#"5|item|["4"]|{stale}|null|{{"n": 13, "id": 4, "name": "four"}}|{read}"#),
        r#"6|item|["6"]|upserted|null|null|{"n": 2000, "id": 6, "name": "read"}"#.to_owned(),
        r#"7|item|["7"]|filtered|null|null|null"#.to_owned(),
        r#"8|item|["8"]|dead|22P02|null|null"#.to_owned(),
        r#"9|nothing|null|ignored|null|null|null"#.to_owned(),
        r#"10|null|null|dead|42704|null|null"#.to_owned(),
        r#"11|null|null|dead|22023|null|null"#.to_owned(),
        r#"12|item|["9"]|upserted|null|{"n": 12, "id": 3, "name": "three"}|{"n": 1, "id": 9, "name": "moved"}"#.to_owned(),
    ]
}

#[test]
fn explain_tells_what_a_batch_would_do() {
    let database = Database::new("explain_batch");
    let mut client = database.connect();
    for guard in ["columns", "table", "off"] {
        run(
            &mut client,
            &format!(
                "drop table if exists item; truncate sequin.dead_letter;
                 create table item (id integer primary key, name text, n integer);
                 select sequin.map('public.item', 'item', guard => '{guard}', name => 'item',
                                   filter => $$record->>'name' is distinct from 'no'$$);
                 select sequin.map('public.nothing', null, name => 'nothing')"
            ),
        );
        let of = |action, lsn, id: u64, name: &str| {
            let record = format!(r#"{{"id":{id},"name":"{name}","n":{lsn}}}"#);
            message(action, "item", lsn, &record)
        };
        apply(
            &mut client,
            &batch(&[
                of("insert", 10, 1, "one"),
                of("insert", 11, 2, "two"),
                of("insert", 12, 3, "three"),
                of("read", 13, 4, "four"),
            ]),
        );
        let messages = [
            of("insert", 20, 5, "five"),
            of("update", 21, 1, "uno"),
            of("delete", 22, 2, "two"),
            of("update", 9, 3, "late"),
            of("update", 23, 1, "eins"),
            of("read", 1, 4, "late read"),
            of("read", 2000, 6, "read"),
            of("insert", 24, 7, "no"),
            message("insert", "item", 25, r#"{"id":8,"name":"x","n":"many"}"#),
            message("insert", "nothing", 26, r#"{"id":8}"#),
            message("insert", "else", 27, r#"{"id":8}"#),
            r#"{"ping":1}"#.to_owned(),
            Message::new("update", "item", 28, r#"{"id":9,"name":"moved","n":1}"#)
                .changes(r#"{"id":3}"#)
                .to_string(),
        ];
        let kept = "select (select array_agg(i order by id) from item i),
                           (select count(*) from sequin.dead_letter),
                           (select array_agg(v order by key) from sequin.row_version v),
                           (select array_agg(c) from sequin.counter c)";
        let before = value(&mut client, kept);
        let found = explained(&mut client, &batch(&messages));
        assert_eq!(
            value(&mut client, kept),
            before,
            "{guard}: something was applied"
        );
        assert_eq!(found, expected(guard), "{guard}");
        // It came true.
        let counts = apply(&mut client, &batch(&messages));
        let count = |outcome: &str| {
            let outcome = format!("|{outcome}|");
            found.iter().filter(|row| row.contains(&outcome)).count() as i64
        };
        assert_eq!(
            [
                counts.upserted,
                counts.deleted,
                counts.collapsed,
                counts.stale,
                counts.filtered,
                counts.ignored,
                counts.dead
            ],
            [
                "upserted",
                "deleted",
                "collapsed",
                "stale",
                "filtered",
                "ignored",
                "dead"
            ]
            .map(count),
            "{guard}"
        );
    }
}

#[test]
fn explain_gives_each_message_its_own_outcome() {
    let database = Database::new("explain_exact");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         create table log (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'columns', name => 'item');
         select sequin.map('public.log', 'log', mode => 'append', name => 'log')",
    );
    let mut random = Random::new(6);
    let of = |action, table, lsn, id: u64| {
        message(
            action,
            table,
            lsn,
            &format!(r#"{{"id":{id},"name":"{lsn}"}}"#),
        )
    };
    let ids: Vec<_> = (0..300).filter(|_| random.below(2) == 0).collect();
    let known: Vec<_> = ids
        .into_iter()
        .flat_map(|id| {
            let action = *random.of(&["insert", "read"]);
            [
                of(action, "item", 50_000, id),
                of("insert", "log", 50_000, id),
            ]
        })
        .collect();
    apply(&mut client, &batch(&known));
    let mut messages: Vec<_> = (0..300)
        .flat_map(|id| {
            let action = *random.of(&["insert", "read", "update"]);
            let lsn = *random.of(&[1, 50_000, 80_000]);
            [of(action, "item", lsn, id), of("insert", "log", 1, id)]
        })
        .collect();
    random.shuffle(&mut messages);
    let batch = batch(&messages);
    // A row that was written has another image afterwards; that of a stale message has the same.
    let wrong = rows(
        &mut client,
        &format!(
            "select * from sequin.explain(batch => '{batch}')
             where outcome <> case when before is not distinct from after then 'stale' else 'upserted' end"
        ),
    );
    assert_eq!(wrong, Vec::<String>::new());
    let outcomes = rows(
        &mut client,
        &format!(
            "select count(*) > 50 from sequin.explain(batch => '{batch}')
             group by mapping, outcome"
        ),
    );
    assert_eq!(outcomes, ["t", "t", "t", "t"]);
}

#[test]
fn explain_takes_large_batches_and_json_lines() {
    let database = Database::new("explain_large");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    let lines: Vec<_> = (0..20_000).map(|id| insert("item", id, id + 1)).collect();
    let row = client
        .query_one(
            "select count(*), count(after), count(before), count(distinct key)
             from sequin.explain_batch($1) where outcome = 'upserted'",
            &[&lines.join("\n")],
        )
        .unwrap();
    let counts: Vec<i64> = (0..4).map(|i| row.get(i)).collect();
    assert_eq!(counts, [20_000, 20_000, 0, 20_000]);
    assert_eq!(value(&mut client, "select count(*) from item"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "0"
    );
}

#[test]
fn explain_tells_what_a_mapping_does() {
    let database = Database::new("explain_mapping");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create table item (id integer primary key, name text not null, tags text[], email text,
                              origin text, total numeric generated always as (1) stored, gone boolean, extra uuid);
           select sequin.map('public.item', 'item', guard => 'columns', name => 'item', filter => 'true',
               on_delete => 'soft', soft_delete => 'gone', columns => '{"id": "record.id", "name": "record.name",
               "tags": "record.tags", "email": {"sql": "lower(record->>''email'')"}, "origin": {"value": "x"}}');
           select sequin.map('public.nothing', null, name => 'nothing')"#,
    );
    assert_eq!(
        rows(
            &mut client,
            r#"select part, name, type, source, "cast" from sequin.explain('item') where part <> 'statement'"#
        ),
        [
            "key|id|integer|record.id|fast path, else input function; numbers by their digits",
            "column|name|text|record.name|fast path, else input function",
            "column|tags|text[]|record.tags|input function; arrays by element",
            "column|email|text|SQL, value 1|assignment from text",
            "column|origin|text|constant \"x\"|fast path, else input function",
            "column|total|numeric|generated|null",
            "column|gone|boolean|mark of a delete|null",
            "column|extra|uuid|not written|null",
            "guard|sequin_lsn|bigint|version of the row|null",
            "guard|sequin_idx|integer|version of the row|null",
            "guard|sequin_committed_at|timestamp with time zone|version of the row|null",
        ]
    );
    assert_eq!(
        rows(
            &mut client,
            "select name, split_part(sql, ' ', 1) from sequin.explain('item') where part = 'statement'"
        ),
        [
            "evaluate|select",
            "upsert of changes|insert",
            "upsert of reads|insert",
            "update of rows that are there|update",
            "delete|update",
        ]
    );
    assert_eq!(
        rows(&mut client, "select * from sequin.explain('nothing')"),
        Vec::<String>::new()
    );
    for (sql, code) in [
        ("select * from sequin.explain('itme')", "42704"),
        ("select * from sequin.explain('[]')", "42704"),
        ("select * from sequin.explain(mapping => null)", "22004"),
        ("select * from sequin.explain(batch => null)", "22004"),
        ("select * from sequin.explain_batch('[')", "22P02"),
    ] {
        assert_eq!(error(&mut client, sql).code().code(), code, "{sql}");
    }
    let wrong = error(&mut client, "select * from sequin.explain('[]')");
    assert!(wrong.hint().unwrap().contains("sequin.explain(batch => …)"));
    run(&mut client, "drop table item");
    assert_eq!(
        error(&mut client, "select * from sequin.explain('item')")
            .code()
            .code(),
        "42P01"
    );
}

#[test]
fn explain_shows_rows_only_to_their_owner() {
    let mut database = Database::new("explain_roles");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
            grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {alice}, {bob};
            select sequin.grant_source('*.*', '{alice}');
            select sequin.grant_source('*.*', '{bob}');
             create table secret (id integer primary key, name text);
             alter table secret owner to {alice};
             insert into secret values (1, 'hidden');
             select sequin.map('public.nothing', null, name => 'nothing')"
        ),
    );
    run(
        &mut database.connect_as(&alice),
        "select sequin.map('public.secret', 'secret', guard => 'table', name => 'secret')",
    );
    let batch = batch(&[
        message("insert", "nothing", 1, r#"{"id":1}"#),
        message("insert", "secret", 1, r#"{"id":1,"name":"known"}"#),
    ]);
    let mut session = database.connect_as(&bob);
    let refused = error(
        &mut session,
        &format!("select * from sequin.explain(batch => '{batch}')"),
    );
    assert_eq!(refused.code().code(), "42501");
    assert_eq!(
        refused.message(),
        "messages[1] goes to a mapping of another role"
    );
    assert_eq!(
        error(&mut session, "select * from sequin.explain('secret')")
            .code()
            .code(),
        "42704"
    );
    let mine = format!(
        "select mapping, outcome, before->>'name', after->>'name' from sequin.explain(batch => '{batch}')"
    );
    let shown = ["nothing|ignored|null|null", "secret|upserted|hidden|known"];
    assert_eq!(rows(&mut database.connect_as(&alice), &mine), shown);
    assert_eq!(rows(&mut admin, &mine), shown);
    // Row security holds for the owner's view of the rows, and for writing them.
    run(
        &mut admin,
        "alter table secret enable row level security, force row level security;
         create policy own on secret using (name <> 'hidden') with check (name <> 'known')",
    );
    assert_eq!(
        rows(&mut database.connect_as(&alice), &mine),
        ["nothing|ignored|null|null", "secret|dead|null|null"]
    );
}

/// Rows of any size are explained in little memory.
#[test]
fn of_large_values_the_size_is_told() {
    let database = Database::new("explain_sizes");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id bigint primary key, \"The text\" text, doc jsonb, n integer);
         alter table item alter \"The text\" set storage external, alter doc set storage external;
         select sequin.map('public.item', 'item', name => 'item')",
    );
    let text = "x".repeat(100_000);
    let of = |lsn: u64, text: &str| {
        let record = format!(r#"{{"id":1,"The text":"{text}","doc":["{text}"],"n":{lsn}}}"#);
        message("update", "item", lsn, &record)
    };
    apply(&mut client, &of(1, &text));
    assert_eq!(
        explained(&mut client, &of(2, "y")),
        [concat!(
            r#"0|item|["1"]|upserted|null|{"n": 1, "id": 1, "doc": "100008 bytes, not shown", "#,
            r#""The text": "100000 bytes, not shown"}|{"n": 2, "id": 1, "doc": ["y"], "The text": "y"}"#
        )]
    );
}
