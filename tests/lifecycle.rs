//! The life of an installation: dump and restore, upgrade, removal.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use postgres::Client;
use support::{
    Counts, Database, Message, apply, apply_error, batch, error, message, pg_config, rows, run,
    value, variable,
};

fn program(name: &str, database: &Database) -> Command {
    let mut command = Command::new(format!("{}/{name}", pg_config("--bindir")));
    command
        .arg("--dbname")
        .arg(database.name())
        .stdin(Stdio::null());
    command
}

fn succeeds(mut command: Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

/// A file that goes when the test ends.
struct File(PathBuf);

impl File {
    fn new(path: PathBuf, text: impl AsRef<[u8]>) -> File {
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("the file is there");
    }
}

/// What dumps carry.
const STATE: [&str; 12] = [
    "select id, name, source, destination, columns, key, filter, mode, on_delete, soft_delete, on_error, guard, enabled,
            owner, search_path, created_at from sequin.mapping order by id",
    "select * from sequin.row_version order by mapping, key",
    "select * from sequin.tombstone order by mapping, key",
    "select * from sequin.home_source order by mapping",
    "select * from sequin.unreadable_member order by mapping, name, shapes",
    "select * from sequin.lacking_column order by mapping, name",
    "select * from sequin.resync order by mapping",
    "select * from sequin.resync_seen order by mapping, key",
    "select * from sequin.counter order by mapping, slot",
    "select * from sequin.dead_letter order by id",
    "select * from sequin.record_key order by mapping, source, backfill, key",
    // a dump has no statistics
    "select to_jsonb(s) - 'resync_rows_estimate' - 'row_versions_estimate' from sequin.status s order by name",
];

fn state(client: &mut Client) -> Vec<Vec<String>> {
    STATE.map(|query| rows(client, query)).to_vec()
}

fn in_use(client: &mut Client, owner: &str) {
    run(
        client,
        &format!(
            "create schema shop; grant usage on schema shop to {owner};
             create table shop.item (id integer primary key, name text, body text);
             create table shop.other (id integer, part text, name text not null, gone timestamptz, unique (part, id));
             create table log (id integer, name text);
             create table parent (id integer primary key);
             create table child (id integer primary key, parent integer references parent, note text);
             grant select, insert, update, delete on shop.item to {owner};
             grant select, insert, update, delete on sequin.mapping to {owner};
             grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {owner};
             select sequin.grant_source('*.*', '{owner}');
             select sequin.map('public.other', 'shop.other', key => '{{id,part}}', guard => 'columns', name => 'other',
                 on_delete => 'soft', soft_delete => 'gone', columns => $${{\"part\": {{\"sql\": \"lower(action)\"}},
                 \"*\": \"record.*\"}}$$);
             select sequin.map('public.item', 'log', mode => 'append', name => 'log', filter => $$record->>'id' <> '3'$$);
             select sequin.map('public.child', 'child', guard => 'table', name => 'child');
             select sequin.map('*.nothing', null, name => 'nothing');
             set role {owner}; set search_path = shop;
             select sequin.map('public.item', 'item', guard => 'table', name => 'item');
             reset role; reset search_path"
        ),
    );
    apply(
        client,
        &batch(&[
            message("insert", "item", 10, r#"{"id":1,"name":"one","body":"b"}"#),
            message("insert", "item", 11, r#"{"id":2,"name":"two","body":"b"}"#),
            message("insert", "item", 12, r#"{"id":"x","name":"dead"}"#),
            message("read", "item", 13, r#"{"id":3,"name":"read"}"#),
            message("insert", "other", 14, r#"{"id":1,"name":"10.0.0.1"}"#),
            message("insert", "child", 15, r#"{"id":1,"parent":7}"#),
            message("insert", "nothing", 15, r#"{"id":1}"#),
            message("insert", "unmapped", 15, r#"{"id":1}"#),
        ]),
    );
    let update = r#"{"id":4,"name":"four","body":"unchanged_toast"}"#;
    apply(
        client,
        &batch(&[
            message("delete", "item", 20, r#"{"id":2}"#),
            message("update", "item", 21, update),
            Message::new(
                "update",
                "item",
                22,
                r#"{"id":5,"name":"moved","body":"b"}"#,
            )
            .changes(r#"{"id":1}"#)
            .to_string(),
        ]),
    );
    run(client, "select sequin.begin_resync('item')");
    apply(
        client,
        &message("read", "item", 3000, r#"{"id":3,"name":"read","body":"b"}"#),
    );
    run(
        client,
        "update sequin.mapping set enabled = false where name = 'nothing'",
    );
}

/// Applying goes on where it was.
fn goes_on(client: &mut Client) {
    let stale = Counts {
        received: 1,
        stale: 1,
        upserted: 1,
        ..Counts::default()
    };
    // (an append takes it once more)
    let late = message("update", "item", 19, r#"{"id":2,"name":"late","body":"b"}"#);
    assert_eq!(apply(client, &late), stale);
    let fills = message("insert", "item", 18, r#"{"id":4,"name":"x","body":"came"}"#);
    assert_eq!(apply(client, &fills).upserted, 2);
    assert_eq!(
        value(client, "select name, body from shop.item where id = 4"),
        "four|came"
    );
    let other = message("insert", "other", 13, r#"{"id":1,"name":"late"}"#);
    assert_eq!(apply(client, &other).stale, 1);
    assert_eq!(
        apply_error(client, &message("insert", "nothing", 1, "{}"))
            .code()
            .code(),
        "55000"
    );
    // Rows 4 and 5 were not confirmed before the dump; 4 was after it.
    assert_eq!(value(client, "select sequin.finish_resync('item')"), "1");
    assert_eq!(
        rows(client, "select id from shop.item order by id"),
        ["3", "4"]
    );
    let counts = "select received, upserted, stale, dead from sequin.status where name = 'item'";
    assert_eq!(value(client, counts), "10|7|1|1");
    let ids =
        "select (select max(id) from sequin.mapping), (select max(id) from sequin.dead_letter)";
    let before = value(client, ids);
    run(
        client,
        "select sequin.map('public.new', null, name => 'new')",
    );
    // a change that is not known yet, also where this was done before
    let letters = value(client, "select max(id) from sequin.dead_letter");
    let lsn = 1000 + letters.parse::<u64>().expect("a number");
    apply(client, &message("insert", "unmapped", lsn, r#"{"id":1}"#));
    let next = |ids: &str| {
        let numbers: Vec<i64> = ids.split('|').map(|id| id.parse().unwrap()).collect();
        format!("{}|{}", numbers[0] + 1, numbers[1] + 1)
    };
    assert_eq!(value(client, ids), next(&before));
    run(client, "select sequin.unmap(name) from sequin.mapping");
    for table in [
        "row_version",
        "tombstone",
        "home_source",
        "unreadable_member",
        "lacking_column",
        "resync",
        "resync_seen",
        "counter",
        "record_key",
    ] {
        let left = value(client, &format!("select count(*) from sequin.{table}"));
        assert_eq!(left, "0", "{table}");
    }
}

#[test]
fn a_database_in_use_is_dumped_and_restored() {
    let mut from = Database::without_extension("dump_from");
    let owner = from.role("owner");
    run(
        &mut from.connect(),
        &format!(
            "create schema ext; create extension pg_sequin schema ext;
             alter database {} set search_path = public, ext",
            from.name()
        ),
    );
    let mut client = from.connect();
    in_use(&mut client, &owner);
    let expected = state(&mut client);
    for (table, rows) in STATE.iter().zip(&expected) {
        assert!(!rows.is_empty(), "nothing in {table}");
    }

    let text = succeeds(program("pg_dump", &from));
    let custom = env::temp_dir().join(format!("{}.dump", from.name()));
    let mut dump = program("pg_dump", &from);
    dump.args(["--format", "custom", "--file"]).arg(&custom);
    succeeds(dump);

    let plain = Database::without_extension("dump_plain");
    let script = File::new(env::temp_dir().join(format!("{}.sql", from.name())), text);
    let mut psql = program("psql", &plain);
    psql.args([
        "--no-psqlrc",
        "--quiet",
        "--set",
        "ON_ERROR_STOP=1",
        "--file",
    ])
    .arg(&script.0);
    succeeds(psql);

    let parallel = Database::without_extension("dump_parallel");
    let custom = File(custom);
    let mut restore = program("pg_restore", &parallel);
    restore
        .args(["--exit-on-error", "--jobs", "2"])
        .arg(&custom.0);
    succeeds(restore);

    for database in [plain, parallel] {
        let mut client = database.connect();
        run(&mut client, "set search_path = public, ext");
        assert_eq!(state(&mut client), expected, "{}", database.name());
        goes_on(&mut client);
        // Owners of mappings keep their grants.
        let mut owner = database.connect_as(&owner);
        assert_eq!(
            value(&mut owner, "select count(*) from sequin.mapping"),
            "0"
        );
        drop(owner);
    }
    // The dump has left the first as it was.
    goes_on(&mut client);
}

const OBJECTS: &str = include_str!("upgrade/objects.sql");

fn extension_directory() -> PathBuf {
    PathBuf::from(pg_config("--sharedir")).join("extension")
}

fn default_version(client: &mut Client) -> String {
    value(
        client,
        "select default_version from pg_available_extensions where name = 'pg_sequin'",
    )
}

/// The scripts of the versions that were released, each with its version.
fn released() -> Vec<(String, PathBuf)> {
    let scripts = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap();
    let paths = scripts.map(|script| script.unwrap().path());
    let version = |path: &PathBuf| -> Option<String> {
        let version = path.file_stem()?.to_str()?.strip_prefix("pg_sequin--")?;
        (!version.contains("--")).then(|| version.to_owned())
    };
    paths
        .filter_map(|path| Some((version(&path)?, path)))
        .collect()
}

/// The objects after an update from a version.
fn updated_from(version: &str) -> Vec<String> {
    let name = format!("update_{}", version.replace(['.', '-'], "_"));
    let database = Database::without_extension(&name);
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create extension pg_sequin version '{version}'; alter extension pg_sequin update"
        ),
    );
    rows(&mut client, OBJECTS)
}

#[test]
fn an_upgraded_extension_is_a_fresh_one() {
    let database = Database::new("update_fresh");
    let mut client = database.connect();
    let fresh = rows(&mut client, OBJECTS);
    assert!(fresh.len() > 200, "{} objects", fresh.len());

    let released = released();
    assert!(!released.is_empty(), "no version is released");
    for (version, path) in released {
        let to = extension_directory().join(path.file_name().unwrap());
        let _script = File::new(to, fs::read(&path).unwrap());
        assert_eq!(updated_from(&version), fresh, "updated from {version}");
        what_is_there_survives(&version);
    }
}

/// Mappings, versions, dead letters and counters are the same after an update from a version, and applying goes on.
fn what_is_there_survives(version: &str) {
    let mut database = Database::without_extension("update_in_use");
    let owner = database.role("owner");
    let mut client = database.connect();
    run(
        &mut client,
        &format!("create extension pg_sequin version '{version}'"),
    );
    in_use(&mut client, &owner);
    let before = state(&mut client);
    run(&mut client, "alter extension pg_sequin update");
    assert_eq!(state(&mut client), before, "updated from {version}");
    goes_on(&mut client);
    // A session that has called before the update goes on, too, and so does a new one.
    assert_eq!(apply(&mut database.connect(), "[]").received, 0);
}

/// The test invents a version that lacks a part of this one.
#[test]
fn what_an_update_script_forgets_is_found() {
    let database = Database::new("update_invented");
    let mut client = database.connect();
    let (version, fresh) = (default_version(&mut client), rows(&mut client, OBJECTS));
    let directory = extension_directory();
    let script = fs::read_to_string(directory.join(format!("pg_sequin--{version}.sql"))).unwrap();
    let part = include_str!("../sql/status.sql");
    const GRANT: &str = "grant select on sequin.status, sequin.versions, sequin.source_grant, sequin.progress, sequin.waiting to public;";
    assert!(script.contains(GRANT));
    let apart = script.replace(part.trim(), "").replace(
        GRANT,
        "grant select on sequin.source_grant, sequin.progress to public;",
    );
    assert!(
        apart.len() < script.len() - part.len() / 2,
        "the script has no such part"
    );
    let part = format!(
        "{part}\ngrant select on sequin.status, sequin.versions, sequin.waiting to public;\n"
    );
    let update = |name: &str, change: &dyn Fn(&str) -> String| {
        let old = format!("0.0.0{name}");
        let _old = File::new(directory.join(format!("pg_sequin--{old}.sql")), &apart);
        let _update = File::new(
            directory.join(format!("pg_sequin--{old}--{version}.sql")),
            change(&part),
        );
        updated_from(&old)
    };
    assert_eq!(update("a", &|part| part.to_owned()), fresh);
    for (name, forgotten) in [
        ("b", "revoke all on sequin.counter from public;"),
        (
            "c",
            "select pg_catalog.pg_extension_config_dump('sequin.counter', '');",
        ),
        ("d", "with (fillfactor = 25)"),
        (
            "e",
            "security definer as 'MODULE_PATHNAME', 'counter_removed_wrapper'",
        ),
        ("f", "dead                  bigint not null"),
        ("g", " with (security_barrier)"),
        (
            "h",
            "grant select on sequin.status, sequin.versions, sequin.waiting to public;",
        ),
        ("i", "comment on view sequin.status is"),
        ("j", "trigger counter_removed"),
    ] {
        assert!(part.contains(forgotten), "{forgotten}");
        let instead = match name {
            "e" => "as 'MODULE_PATHNAME', 'counter_removed_wrapper'",
            "f" => "dead bigint",
            "i" => "comment on table sequin.counter is",
            "j" => "trigger counter_gone",
            _ => "",
        };
        assert_ne!(
            update(name, &|part| part.replace(forgotten, instead)),
            fresh,
            "{forgotten}"
        );
    }
}

#[test]
fn drop_extension_leaves_nothing() {
    let mut database = Database::without_extension("drop_extension");
    let owner = database.role("owner");
    let mut client = database.connect();
    const COUNTS: &str = "
        select (select count(*) from pg_class), (select count(*) from pg_proc), (select count(*) from pg_type),
               (select count(*) from pg_namespace), (select count(*) from pg_depend), (select count(*) from pg_description),
               (select count(*) from pg_init_privs), (select count(*) from pg_trigger), (select count(*) from pg_policy),
               (select count(*) from pg_shdepend where dbid = (select oid from pg_database
                                                               where datname = current_database())),
               (select count(*) from pg_constraint), (select count(*) from pg_event_trigger)";
    let before = value(&mut client, COUNTS);
    run(&mut client, "create extension pg_sequin");
    let mut forwarder = database.connect();
    in_use(&mut client, &owner);
    apply(
        &mut forwarder,
        &message("insert", "item", 100, r#"{"id":9}"#),
    );
    run(
        &mut client,
        &format!(
            "drop extension pg_sequin;
             drop schema shop cascade; drop table log, child, parent; drop owned by {owner}"
        ),
    );
    assert_eq!(value(&mut client, COUNTS), before);

    // Sessions that have used it, after it is made again.
    let again = message("insert", "item", 100, r#"{"id":9,"name":"n"}"#);
    for session in [&mut client, &mut forwarder] {
        let gone = error(session, "select sequin_apply('[]')");
        assert_eq!(gone.code().code(), "42883");
    }
    run(
        &mut client,
        "create extension pg_sequin; create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    for session in [&mut forwarder, &mut client] {
        apply(session, &again);
        apply(session, &message("insert", "item", 101, r#"{"id":"x"}"#));
    }
    assert_eq!(
        value(
            &mut client,
            "select received, upserted, stale, dead from sequin.status"
        ),
        "4|1|1|2"
    );
}

/// A cluster of its own, removed when the test ends.
struct Cluster(PathBuf);

impl Cluster {
    fn new(name: &str) -> Cluster {
        let clusters = variable("CLUSTERS");
        let cluster = Cluster(PathBuf::from(clusters).join(name));
        cluster.run("remove");
        cluster
    }

    /// What `.ci/cluster` says to it.
    fn run(&self, what: &str) -> String {
        let mut command = Command::new(variable("CLUSTER"));
        // The server that it starts keeps what it inherits open.
        command
            .arg(what)
            .arg(&self.0)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        String::from_utf8(succeeds(command)).expect("text")
    }

    /// Starts it, and returns the directory of its socket.
    fn start(&self) -> String {
        let said = self.run("start");
        let host = said
            .strip_prefix("export PGHOST=")
            .and_then(|said| said.split(' ').next());
        host.expect("PGHOST").to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run("remove");
    }
}

#[test]
fn pg_upgrade_keeps_everything() {
    let (old, new) = (Cluster::new("upgrade_old"), Cluster::new("upgrade_new"));
    let bindir = pg_config("--bindir");
    let psql = |host: &str, sql: &str| {
        let mut command = Command::new(format!("{bindir}/psql"));
        command.args([
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-h",
            host,
            "-c",
            sql,
        ]);
        String::from_utf8(succeeds(command)).expect("text")
    };
    let host = old.start();
    psql(
        &host,
        "create extension pg_sequin; create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    let messages = [
        message("insert", "item", 10, r#"{"id":1,"name":"one"}"#),
        message("delete", "item", 11, r#"{"id":2}"#),
        message("insert", "item", 12, r#"{"id":"x"}"#),
    ];
    psql(
        &host,
        &format!("select sequin_apply('{}')", batch(&messages)),
    );
    let kept = STATE.map(|query| psql(&host, query));
    let socket = new.start();
    old.run("stop");
    new.run("stop");

    // As the server's user.
    let is_root = succeeds({
        let mut id = Command::new("id");
        id.arg("-u");
        id
    }) == b"0\n";
    let mut upgrade = match is_root {
        true => Command::new("runuser"),
        false => Command::new("env"),
    };
    if is_root {
        upgrade.args(["-u", "postgres", "--"]);
    }
    upgrade
        .arg(format!("{bindir}/pg_upgrade"))
        .current_dir(&new.0);
    for (option, path) in [("-d", old.0.join("data")), ("-D", new.0.join("data"))] {
        upgrade.arg(option).arg(path);
    }
    upgrade.args([
        "-b", &bindir, "-B", &bindir, "-U", "postgres", "-s", &socket,
    ]);
    succeeds(upgrade);

    let host = new.start();
    assert_eq!(STATE.map(|query| psql(&host, query)), kept);
    let messages = [
        message("insert", "item", 9, r#"{"id":2,"name":"late"}"#),
        message("update", "item", 20, r#"{"id":1,"name":"uno"}"#),
    ];
    let apply = format!(
        "select upserted, stale from sequin_apply('{}')",
        batch(&messages)
    );
    assert_eq!(psql(&host, &apply), "1|1\n");
    assert_eq!(psql(&host, "table item"), "1|uno\n");
}
