//! Generated columns of the source: reads have them, changes lack them.

use support::{Database, GUARDS, Message, apply_jsonb, batch, rows, run, send, value};

use super::{taken, warned};

const STALE: &str = "select array_to_string(stale_columns, ',') from sequin.status";

fn change(action: &str, lsn: u64, id: i64, width: i64) -> Message {
    let record = format!(r#"{{"id":{id},"width":{width}}}"#);
    Message::new(action, "box", lsn, record)
}

fn read(lsn: u64, id: i64, width: i64) -> Message {
    let record = format!(
        r#"{{"id":{id},"width":{width},"area":{},"Edge":1}}"#,
        width * width
    );
    Message::new("read", "box", lsn, record)
}

fn mapped(test: &str, guard: &str, ddl: &str) -> Database {
    let database = Database::new(&format!("operator_generated_{test}_{guard}"));
    let mut client = database.connect();
    run(&mut client, ddl);
    run(
        &mut client,
        &format!("select sequin.map('public.box', 'box', name => 'box', guard => '{guard}')"),
    );
    database
}

#[test]
fn an_ordinary_column_is_told_once() {
    for guard in GUARDS {
        let ddl = "create table box (id integer primary key, width integer, area integer, \"Edge\" integer, own text)";
        let database = mapped("ordinary", guard, ddl);
        let (mut client, warnings) = warned(&database);
        send(&mut client, &[change("insert", 10, 1, 2)]);
        assert_eq!(value(&mut client, STALE), "null", "{guard}");
        assert_eq!(taken(&warnings), Vec::<String>::new(), "{guard}");
        // Not if it is rolled back, and in another session than that of the changes.
        let (mut other, others) = warned(&database);
        run(&mut other, "begin");
        send(&mut other, &[read(3600, 1, 3)]);
        run(&mut other, "rollback");
        assert_eq!(taken(&others).len(), 1, "{guard}");
        assert_eq!(value(&mut other, STALE), "null", "{guard}");
        apply_jsonb(&mut other, &batch(&[read(3600, 1, 3)]));
        let told = taken(&others);
        assert_eq!(told.len(), 1, "{guard} {told:?}");
        for part in [
            "only backfill reads of mapping \"box\" have values for ",
            "area",
            "\"Edge\"",
            "ALTER TABLE public.box DROP COLUMN ",
        ] {
            assert!(told[0].contains(part), "{guard} {told:?}");
        }
        assert_eq!(value(&mut client, STALE), "Edge,area", "{guard}");
        // The column keeps the value of the read.
        send(&mut client, &[change("update", 4000, 1, 4)]);
        send(&mut client, &[change("delete", 10, 7, 1)]);
        send(&mut other, &[read(3700, 2, 3)]);
        send(&mut other, &[change("update", 4100, 2, 4)]);
        let all = "select width, area, \"Edge\" from box order by id";
        assert_eq!(rows(&mut client, all), ["4|9|1", "4|9|1"], "{guard}");
        assert_eq!(
            (taken(&warnings), taken(&others)),
            (vec![], vec![]),
            "{guard}"
        );
        // A change that has it ends it.
        let whole = r#"{"id":1,"width":5,"area":25,"Edge":1}"#;
        send(&mut client, &[Message::new("update", "box", 5000, whole)]);
        assert_eq!(value(&mut client, STALE), "null", "{guard}");
    }
}

/// SQL and a filter find null where changes lack a member.
#[test]
fn sql_that_reads_one_is_told_once() {
    for guard in GUARDS {
        let ddl = "create table box (id integer primary key, width integer, large text)";
        let database = mapped("sql", guard, ddl);
        run(
            &mut database.connect(),
            r#"select sequin.alter_mapping('box', filter => '(record->>''area'')::int > 0 or record->>''width'' <> ''0''',
                   columns => '{"id": "record.id", "width": "record.width",
                                "large": {"sql": "record->>''width'' || '' of '' || (record->>''area'')"}}')"#,
        );
        let (mut client, warnings) = warned(&database);
        let all = "select width, large from box order by id";
        send(&mut client, &[change("insert", 10, 1, 2)]);
        assert_eq!(value(&mut client, STALE), "null", "{guard}");
        assert_eq!(taken(&warnings), [""; 0], "{guard}");
        send(&mut client, &[read(3600, 1, 3)]);
        assert_eq!(rows(&mut client, all), ["3|3 of 9"], "{guard}");
        let told = taken(&warnings);
        assert_eq!(told.len(), 1, "{guard} {told:?}");
        for part in [
            "SQL of mapping \"box\" reads members that only backfill reads have: large (area) and filter (area)",
            "the SQL finds null there",
            "compute the value from members that changes have",
        ] {
            assert!(told[0].contains(part), "{guard} {told:?}");
        }
        assert_eq!(
            value(&mut client, STALE),
            "filter (area),large (area)",
            "{guard}"
        );
        // Once, also in another session.
        let (mut other, others) = warned(&database);
        send(
            &mut other,
            &[read(5000, 2, 3), change("update", 6000, 2, 4)],
        );
        assert_eq!(taken(&others), [""; 0], "{guard}");
        // Changes that have it end it.
        let whole = r#"{"id":1,"width":5,"area":25,"Edge":1}"#;
        send(&mut client, &[Message::new("update", "box", 7000, whole)]);
        assert_eq!(value(&mut client, STALE), "null", "{guard}");
    }
}

#[test]
fn a_generated_column_is_right_and_not_told() {
    for guard in GUARDS {
        let ddl = "create table box (id integer primary key, width integer,
                       area integer generated always as (width * width) stored, \"Edge\" integer default 1)";
        let database = mapped("generated", guard, ddl);
        run(
            &mut database.connect(),
            "update sequin.mapping set columns = '{\"id\": \"record.id\", \"width\": \"record.width\"}'",
        );
        let (mut client, warnings) = warned(&database);
        let all = "select width, area, \"Edge\" from box order by id";
        send(&mut client, &[change("insert", 10, 1, 2)]);
        send(&mut client, &[read(3600, 1, 3), read(3600, 2, 3)]);
        assert_eq!(rows(&mut client, all), ["3|9|1", "3|9|1"], "{guard}");
        send(&mut client, &[change("update", 4000, 1, 4)]);
        assert_eq!(rows(&mut client, all), ["4|16|1", "3|9|1"], "{guard}");
        assert_eq!(value(&mut client, STALE), "null", "{guard}");
        assert_eq!(taken(&warnings), Vec::<String>::new(), "{guard}");
    }
}
