//! Fingerprints of rows.

use postgres::Client;
use support::{Database, Message, apply, batch, error, rows, run, value};

/// Types whose text a setting changes, and some whose text none does.
const TYPED: &str = r#"
    create type place as (at timestamptz, "Street" text, weight real);
    create domain moment as timestamptz;
    create type span as range (subtype = timestamptz);
    create table typed (id integer primary key, b boolean, i bigint, n numeric, f4 real, f8 double precision, t text,
        c char(4), u uuid, d date, tm time, tmz timetz, ts timestamp, tz timestamptz, iv interval, bin bytea,
        j json, jb jsonb, place place, dom moment, span span, days daterange, at tstzrange, texts text[],
        times timestamptz[], places place[], bins bytea[], cash money);
    insert into typed values (1, true, 9007199254740993, 1.50, 0.1, 0.1, E'a"b,{\\\n}', 'ab',
        '0f8b3a4e-5c1d-4e2a-9b7f-2d6c8e1a3f50', '2026-03-01', '04:05:06.789', '04:05:06+02', '2026-03-01 12:30:00.000001',
        '2026-03-01 12:30:00.000001+00', '1 year 2 mons 3 days 04:05:06.789', '\x00ff', '{"b":  1.0, "a": [null]}',
        '{"b": 1.0, "a": [null]}', row('2026-03-01 00:00+00', null, 1e-7), '0044-03-15 10:00+00 BC',
        span('2026-03-01 00:00+00', null), '[2026-03-01,2026-04-01)', '[2026-03-01 00:00+00,2026-04-01 00:00+00]',
        '{a,null,"x y"}', array['2026-03-01 00:00+00', null]::timestamptz[],
        array[row('2026-03-01 00:00+00', 'a,b', 2)]::place[], array['\x01', '\x']::bytea[], '12.34');
    insert into typed (id, d, ts, tz, f8, f4, at, iv, times)
        values (2, 'infinity', '-infinity', 'infinity', 'nan', '-infinity', 'empty', '-3 days 01:00', '{}');
    insert into typed (id, d, tz) values (3, '5874897-12-31', '294276-12-31 23:59:59.999999+00');
    insert into typed (id, place, span) values (4, row(null, null, null), '(,)');"#;

#[test]
fn a_fingerprint_is_that_of_the_rows_alone() {
    let database = Database::new("fingerprint");
    let mut client = database.connect();
    run(&mut client, "set timezone = 'UTC'; set lc_monetary = 'C'");
    run(&mut client, TYPED);
    // The same in every version of PostgreSQL.
    let fingerprint = "select * from sequin.fingerprint('typed', bucket_count => 2)";
    let expected = ["0|1|894838243789042359", "1|3|1549796487088918941"];
    assert_eq!(rows(&mut client, fingerprint), expected);

    // Whatever the settings, and in another order.
    let query = value(
        &mut client,
        "select sequin.fingerprint_query('typed', bucket_count => 2)",
    );
    for settings in [
        "set timezone = 'America/New_York'; set datestyle = 'German, DMY'; set intervalstyle = 'iso_8601';
         set bytea_output = 'escape'; set extra_float_digits = -15; set xmloption = document;
         set standard_conforming_strings = off",
        "set timezone = 'Asia/Kolkata'; set datestyle = 'SQL, MDY'; set intervalstyle = 'sql_standard';
         set extra_float_digits = 3; create table copy as select * from typed; truncate typed;
         insert into typed select * from copy order by id desc",
    ] {
        run(&mut client, settings);
        assert_eq!(rows(&mut client, &query), expected, "{settings}");
        assert_eq!(rows(&mut client, fingerprint), expected, "{settings}");
    }

    // Every column counts, in the bucket of its row alone.
    let columns = rows(
        &mut client,
        "select attname from pg_attribute where attrelid = 'typed'::regclass and attnum > 1 order by attnum",
    );
    for column in &columns {
        let without = format!(
            "select array_agg(hash) from sequin.fingerprint('typed', array(
                 select unnest('{{{}}}'::text[]) except select '{column}'), 2)",
            columns.join(",")
        );
        let before = value(&mut client, &without);
        run(
            &mut client,
            &format!("begin; update typed set {column} = null where id = 1"),
        );
        let differs = rows(&mut client, fingerprint)
            .iter()
            .zip(expected)
            .filter(|(now, before)| *now != before)
            .count();
        assert_eq!(differs, 1, "{column}");
        assert_eq!(value(&mut client, &without), before, "{column}");
        run(&mut client, "rollback");
    }
}

#[test]
fn a_destination_is_compared_with_its_source_by_fingerprints() {
    let mut database = Database::new("fingerprint_compare");
    let nobody = database.role("nobody");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create schema shop;
           create table shop."Item" (name text, id integer primary key, at timestamptz, price numeric(10,2));
           create table item (id integer primary key, name text, at timestamptz, price numeric(10,2),
                              total numeric generated always as (price * 2) stored);
           select sequin.map('shop.Item', 'item', guard => 'columns', name => 'item');
           insert into shop."Item" select 'n' || n, n, now() + n * interval '1 s', n / 7.0 from generate_series(1, 500) n"#,
    );
    let records = rows(
        &mut client,
        r#"select to_jsonb(i) from shop."Item" i order by name"#,
    );
    let messages: Vec<_> = (1..)
        .zip(&records)
        .map(|(lsn, record)| Message::new("insert", "Item", lsn, record).schema("shop"))
        .collect();
    assert_eq!(apply(&mut client, &batch(&messages)).upserted, 500);
    let query = value(
        &mut client,
        r#"select sequin.fingerprint_query('item', bucket_count => 10, source => 'shop."Item"')"#,
    );
    let here = "select * from sequin.fingerprint('item', bucket_count => 10)";
    let there = rows(&mut client, &query);
    assert_eq!(there.len(), 10);
    assert_eq!(rows(&mut client, here), there);

    // One value, one row less.
    let differing = |client: &mut Client, change: &str| {
        run(client, "begin");
        run(client, change);
        let now = rows(client, here);
        run(client, "rollback");
        now.iter()
            .zip(&there)
            .filter(|(now, there)| now != there)
            .count()
    };
    assert_eq!(
        differing(
            &mut client,
            "update item set price = price + 0.01 where id = 77"
        ),
        1
    );
    assert_eq!(differing(&mut client, "delete from item where id = 77"), 1);
    assert_eq!(differing(&mut client, "update item set sequin_lsn = 0"), 0);

    for (sql, code) in [
        ("select sequin.fingerprint('item', '{nmae}')", "42703"),
        ("select sequin.fingerprint('item', '{}')", "22023"),
        (
            "select sequin.fingerprint('item', bucket_count => 0)",
            "22023",
        ),
        ("select sequin.fingerprint(null)", "22004"),
        ("select sequin.fingerprint(1::oid)", "42P01"),
    ] {
        assert_eq!(error(&mut client, sql).code().code(), code, "{sql}");
    }
    let unknown = error(&mut client, "select sequin.fingerprint('item', '{nmae}')");
    assert_eq!(unknown.hint(), Some("Did you mean \"name\"?"));
    let mut nobody = database.connect_as(&nobody);
    assert_eq!(error(&mut nobody, here).code().code(), "42501");

    // Without a primary key, and with many columns.
    let columns: Vec<_> = (0..250)
        .map(|n| format!("c{n} integer default {n}"))
        .collect();
    run(
        &mut client,
        &format!(
            "create table wide ({}); insert into wide default values",
            columns.join(", ")
        ),
    );
    let wide = "select count(*), sum(rows) from sequin.fingerprint('wide')";
    assert_eq!(value(&mut client, wide), "1|1");
}

/// `jsonb` refuses some values of type `json`.
#[test]
fn a_json_that_is_no_jsonb_has_a_fingerprint() {
    let database = Database::new("fingerprint_json");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create table source (id integer primary key, j json);
           create table copy (id integer primary key, j json);
           insert into source values (1, '{"b": "\u0000", "a": 1}'), (2, '["\\u0000", "\u0000"]'), (3, '"\ud800"'),
               (4, '1e400000'), (5, '"\ud83d\ude00"'), (6, '{"a": "\\ud800"}'), (7, '"e99999"'), (8, null);
           insert into copy values (1, '{"a":1,"b":"\u0000"}'), (2, '["\\u0000","\u0000"]'), (3, '"\ud800"'),
               (4, '1e400000'), (5, '"😀"'), (6, '{"a": "\\ud800"}'), (7, '"e99999"'), (8, null);"#,
    );
    let of =
        |table: &str| format!("select * from sequin.fingerprint('{table}', bucket_count => 1)");
    let source = rows(&mut client, &of("source"));
    assert_eq!(rows(&mut client, &of("copy")), source);
    for (id, other) in [
        (1, r#"{"b": "\u001a", "a": 1}"#),
        (2, r#"["\\u0000", "\\u0000"]"#),
        (3, r#""\ud801""#),
    ] {
        run(
            &mut client,
            &format!("begin; update copy set j = '{other}' where id = {id}"),
        );
        assert_ne!(rows(&mut client, &of("copy")), source, "{other}");
        run(&mut client, "rollback");
    }
}
