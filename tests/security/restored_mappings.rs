//! A superuser dumps and restores a database in which others have put things into their mappings, and makes the extension
//! where others have put things in its way.

use std::process::{Command, Stdio};

use support::{Database, code, error, pg_config, rows, run, value};

use super::Scene;

fn succeeds(program: &str, database: &Database, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(format!("{}/{program}", pg_config("--bindir")))
        .args(["--dbname", database.name()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    output.stdout
}

/// Nothing of a mapping runs when it is restored.
#[test]
fn a_restore_runs_no_code_of_mappings() {
    let scene = Scene::new("restored");
    run(
        &mut scene.admin(),
        "create table ran (who text); grant all on ran to public",
    );
    run(
        &mut scene.mallory(),
        r#"create function mallory.noted(value text) returns text language plpgsql as
               $$ begin insert into public.ran values (current_user); return value; end $$;
           create table mallory.item (id integer primary key, name text default mallory.noted('x'), gone boolean);
           create function mallory.act() returns trigger language plpgsql as
               $$ begin perform mallory.noted('x'); return new; end $$;
           create trigger act before insert or update on mallory.item for each row execute function mallory.act();
           select sequin.map('public.item', 'mallory.item', name => 'bad', filter => 'mallory.noted(''x'') = ''x''',
               guard => 'table', on_delete => 'soft', soft_delete => 'gone', columns =>
               '{"id": {"sql": "mallory.noted(record->>''id'')::integer"}, "name": {"sql": "mallory.noted(record->>''name'')"}}');
           select sequin.map('public.other', 'mallory.item', name => 'former', filter => 'mallory.noted(''x'') = ''x''');
           select sequin.unmap('former')"#,
    );
    let mut admin = scene.admin();
    // a row with a version, and a letter
    for id in ["1", r#""x""#] {
        let record = format!(r#"{{"id":{id},"name":"x"}}"#);
        support::apply(
            &mut scene.forwarder(),
            &support::message("insert", "item", 1, &record),
        );
    }
    run(&mut admin, "truncate ran");
    let restored = Database::without_extension("restored_to");
    let path = std::env::temp_dir().join(format!("{}.sql", restored.name()));
    std::fs::write(&path, succeeds("pg_dump", &scene.database, &[])).expect("a file");
    let file = path.to_str().expect("a path");
    succeeds(
        "psql",
        &restored,
        &[
            "--no-psqlrc",
            "--quiet",
            "--set",
            "ON_ERROR_STOP=1",
            "--file",
            file,
        ],
    );
    std::fs::remove_file(&path).expect("the file");
    let mut admin = restored.connect();
    let kept =
        "select (select count(*) from sequin.mapping), (select count(*) from sequin.dead_letter),
                       (select count(*) from sequin.row_version)";
    assert_eq!(value(&mut admin, kept), "2|1|1");
    for sql in [
        "select * from sequin.status",
        "select * from sequin.versions",
        "select * from sequin.waiting",
        "select * from sequin.letters",
        "select * from sequin.own_mapping",
    ] {
        run(&mut admin, sql);
    }
    assert_eq!(
        rows(&mut admin, "select who from ran"),
        Vec::<String>::new()
    );
    run(&mut admin, "select * from sequin.check()");
    let who = "select coalesce(string_agg(distinct who, ','), '') from ran";
    assert!(["", &scene.mallory].contains(&&*value(&mut admin, who)));
}

/// The extension takes over nothing that is there already.
#[test]
fn what_is_in_the_way_stays_and_the_extension_is_refused() {
    for (n, (planted, sqlstate)) in [
        ("create schema sequin", "42P06"),
        ("create schema sequin_internal", "42P06"),
        (
            "create function public.sequin_apply(text, out received bigint, out upserted bigint, out deleted bigint,
                 out collapsed bigint, out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
             language sql as 'select 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint'",
            "42723",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut database = Database::without_extension(&format!("in_the_way_{n}"));
        let mallory = database.role("mallory");
        let name = database.name().to_owned();
        run(
            &mut database.connect(),
            &format!("alter database {name} owner to {mallory}"),
        );
        run(&mut database.connect_as(&mallory), planted);
        let mut admin = database.connect();
        let refused = error(&mut admin, "create extension pg_sequin");
        assert_eq!(code(&refused), sqlstate, "{planted}");
        let made = "select count(*) from pg_proc where probin ~ 'pg_sequin'";
        assert_eq!(value(&mut admin, made), "0");
    }
}
