//! Faults that are not a mapping's: what an operator reads of them by the queries of the page.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Database, apply, apply_error, batch, code, message, run, value};

use super::cluster::Cluster;
use super::page::{tells, will_tell};
use super::scene::{Scene, TABLE};

const BEGIN: &str = "Where to begin";
const FAIL: &str = "Calls fail";
const HANG: &str = "Calls hang";
const MISSING: &str = "Rows are missing";

#[test]
fn one_message_in_a_hundred_is_bad() {
    let mut scene = Scene::new("one_percent", TABLE, "");
    let messages: Vec<String> = (1..=300)
        .map(|id| {
            let n = if id % 100 == 0 {
                "\"many\"".to_owned()
            } else {
                id.to_string()
            };
            message(
                "insert",
                "item",
                id,
                &format!(r#"{{"id":{id},"name":"x","n":{n}}}"#),
            )
        })
        .collect();
    let counts = apply(&mut scene.forwarder, &batch(&messages));
    assert_eq!((counts.upserted, counts.dead), (297, 3));
    tells(
        &mut scene.admin,
        BEGIN,
        0,
        &["name=bad", "state=running", "dead_letters_dead=3"],
    );
    tells(
        &mut scene.admin,
        MISSING,
        0,
        &["mapping=bad", "state=dead", "sqlstate=22P02", "letters=3"],
    );
    tells(
        &mut scene.admin,
        MISSING,
        1,
        &["key=[\"300\"]", "column \"n\""],
    );
}

#[test]
fn a_column_that_no_mapping_names_is_dropped() {
    let mut scene = Scene::new("unnamed_column", TABLE, "");
    scene.send_well();
    run(&mut scene.admin, "alter table shop.item drop n");
    scene.send_well();
    tells(
        &mut scene.admin,
        "A column is null",
        0,
        &["name=bad", "not_taken", "\"n\""],
    );
}

#[test]
fn another_session_holds_a_lock() {
    let mut scene = Scene::new("long_lock", TABLE, "");
    scene.send_well();
    run(
        &mut scene.admin,
        "begin; lock table shop.item in share mode",
    );
    let holder = value(&mut scene.admin, "select pg_backend_pid()");
    let mut watch = scene.database.connect();
    let mut forwarder = scene.database.connect();
    let call = std::thread::spawn(move || {
        apply(
            &mut forwarder,
            &message("insert", "item", 900, r#"{"id":900,"name":"x","n":1}"#),
        )
    });
    let blocked = format!("blocked_by={{{holder}}}");
    will_tell(
        &mut watch,
        HANG,
        0,
        &[
            "state=waiting",
            "mappings={bad}",
            "waits_for=Lock: relation",
            &blocked,
        ],
    );
    run(&mut scene.admin, "commit");
    assert_eq!(call.join().expect("no panic").upserted, 1);
}

#[test]
fn a_forwarder_does_not_commit() {
    let mut scene = Scene::new("no_commit", TABLE, "");
    run(&mut scene.forwarder, "begin");
    scene.send_well();
    tells(
        &mut scene.admin,
        HANG,
        0,
        &["state=idle in transaction", "bad", "blocked_by={}"],
    );
}

#[test]
fn calls_run_out_of_time() {
    let mut scene = Scene::new("out_of_time", TABLE, "");
    scene.send_well();
    run(
        &mut scene.admin,
        "begin; lock table shop.item in share mode",
    );
    run(&mut scene.forwarder, "set lock_timeout = '100ms'");
    let insert = message("insert", "item", 900, r#"{"id":900,"name":"x","n":1}"#);
    assert_eq!(code(&apply_error(&mut scene.forwarder, &insert)), "55P03");
    let mut watch = scene.database.connect();
    will_tell(
        &mut watch,
        FAIL,
        0,
        &[
            "sqlstate=55P03",
            "outcome=failed",
            "calls=1",
            "lock timeout",
        ],
    );
}

#[test]
fn the_forwarder_sends_too_much() {
    let mut scene = Scene::new("too_much", TABLE, "");
    run(&mut scene.forwarder, "set sequin.max_batch_messages = 2");
    let insert = message("insert", "item", 900, r#"{"id":900,"name":"x","n":1}"#);
    let large = batch(&[&insert, &insert, &insert]);
    assert_eq!(code(&apply_error(&mut scene.forwarder, &large)), "54000");
    let mut watch = scene.database.connect();
    will_tell(&mut watch, FAIL, 0, &["sqlstate=54000", "outcome=failed"]);
}

#[test]
fn a_mapping_is_paused() {
    let mut scene = Scene::new("paused", TABLE, "");
    run(&mut scene.admin, "select sequin.pause('bad')");
    tells(&mut scene.admin, BEGIN, 0, &["name=bad", "state=paused"]);
    let insert = message("insert", "item", 900, r#"{"id":900,"name":"x","n":1}"#);
    assert_eq!(code(&apply_error(&mut scene.forwarder, &insert)), "55000");
    let mut watch = scene.database.connect();
    will_tell(
        &mut watch,
        FAIL,
        0,
        &["sqlstate=55000", "mapping \"bad\" is paused"],
    );
}

/// A cluster of its own: the setting is the server's.
#[test]
fn the_synchronous_standby_is_gone() {
    let cluster = Cluster::new("fault_sync_rep");
    let mut admin = cluster.connect("postgres");
    run(
        &mut admin,
        "create extension pg_sequin;
         create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table');
",
    );
    run(&mut admin, "set synchronous_commit = local");
    run(
        &mut admin,
        "alter system set synchronous_standby_names = 'gone'",
    );
    run(&mut admin, "select pg_reload_conf()");
    let mut forwarder = cluster.connect("postgres");
    while value(&mut forwarder, "show synchronous_standby_names") != "gone" {
        std::thread::yield_now();
    }
    let call = std::thread::spawn(move || apply(&mut forwarder, &support::item(1, "a")));
    will_tell(
        &mut admin,
        HANG,
        0,
        &["mappings={item}", "waits_for=IPC: SyncRep"],
    );
    run(
        &mut admin,
        "alter system set synchronous_standby_names = ''",
    );
    run(&mut admin, "select pg_reload_conf()");
    assert_eq!(call.join().expect("no panic").upserted, 1);
}

/// A small file system of the test's own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it for the server's user; none where the machine forbids that.
    fn mount(size: &str) -> Option<SmallDisk> {
        let path = PathBuf::from(format!("/tmp/sequin_small_{}", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        let told = |command: &mut Command| command.output().is_ok_and(|done| done.status.success());
        let options = format!("size={size},mode=0777");
        let mount = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        if !told(Command::new("mount").args(mount).arg(&path)) {
            let _ = std::fs::remove_dir(&path);
            return None;
        }
        let disk = SmallDisk(path);
        let inner = disk.0.join("space");
        std::fs::create_dir(&inner).ok()?;
        told(Command::new("chown").arg("postgres").arg(&inner)).then_some(disk)
    }

    fn place(&self) -> PathBuf {
        Path::new(&self.0).join("space")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Runs where the machine lets us mount a file system.
#[test]
fn the_disk_is_full() {
    let database = Database::new("fault_disk_full");
    let Some(small) = SmallDisk::mount("4m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    let space = format!("sequin_full_{}", std::process::id());
    run(
        &mut admin,
        &format!(
            "create tablespace {space} location '{}'",
            small.place().display()
        ),
    );
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text, filler text) tablespace {space};
             create table ballast (filler text) tablespace {space};
             alter table ballast alter filler set storage external;
             insert into ballast select repeat('x', 100000) from generate_series(1, 10);
             alter table item alter filler set storage external;
             select sequin.map('public.item', 'item', guard => 'off')"
        ),
    );
    let filler = "x".repeat(100_000);
    let full = (1..200).find_map(|id| {
        let insert = message(
            "insert",
            "item",
            id,
            &format!(r#"{{"id":{id},"filler":"{filler}"}}"#),
        );
        let call = forwarder.query_one("select * from sequin_apply($1::text)", &[&insert]);
        call.err()
    });
    let full = full.expect("the disk is full");
    assert_eq!(full.code().map(|code| code.code()), Some("53100"));
    will_tell(&mut admin, FAIL, 0, &["sqlstate=53100", "outcome=failed"]);
    // room is made
    run(&mut admin, "drop table ballast");
    let insert = message("insert", "item", 500, r#"{"id":500,"filler":"x"}"#);
    assert_eq!(apply(&mut forwarder, &insert).upserted, 1);
    run(&mut admin, "drop table item");
    run(&mut admin, &format!("drop tablespace {space}"));
}
