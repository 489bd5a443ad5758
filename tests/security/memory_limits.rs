//! Batches for which the system has no memory: an allocator that aborts would take the whole server along.

use std::process::Command;

use support::{Database, batch, code, message, run, try_apply, value};

/// Lets a backend have so much more address space, in MB. `None`: this system cannot.
fn limit(pid: &str, more: u64) -> Option<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmSize:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let bytes = (kilobytes << 10) + (more << 20);
    let done = Command::new("prlimit")
        .args(["--pid", pid, &format!("--as={bytes}")])
        .status()
        .ok()?;
    done.success().then_some(())
}

#[test]
fn a_server_without_memory_lives() {
    let database = Database::new("memory_limits");
    run(
        &mut database.connect(),
        "create table item (id bigint primary key, t text, d jsonb);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item',
                           columns => '{\"d\": \"record\", \"*\": \"record.*\"}')",
    );
    let started = "select pg_postmaster_start_time(), (select count(*) from pg_stat_activity where pid = pg_backend_pid())";
    let before = value(&mut database.connect(), started);
    let body = "x".repeat(500);
    let messages: Vec<_> = (0..10_000_u64)
        .map(|i| {
            message(
                "insert",
                "item",
                i + 1,
                &format!(r#"{{"id":{i},"t":"{body}"}}"#),
            )
        })
        .collect();
    let ordinary = batch(&messages);
    let batches = [
        ("ordinary", ordinary.clone()),
        ("unmapped", ordinary.replace(r#""item""#, r#""x""#)),
        (
            "bad",
            messages[..500]
                .join("\n")
                .replace(r#"{"id":"#, r#"{"id":"x","i":"#),
        ),
        ("ones", format!("[{}1]", "1,".repeat(200_000))),
        (
            "members",
            message(
                "insert",
                "item",
                1,
                &format!(r#"{{"id":1{}}}"#, r#","a":1"#.repeat(300_000)),
            ),
        ),
        (
            "one",
            message(
                "insert",
                "item",
                1,
                &format!(r#"{{"id":1,"t":"{}"}}"#, body.repeat(20_000)),
            ),
        ),
    ];
    let (mut failed, mut applied) = (0, 0);
    for (what, batch) in &batches {
        for more in (2..60).step_by(3) {
            let mut client = database.connect();
            let pid = value(&mut client, "select pg_backend_pid()");
            run(&mut client, "begin");
            // the library and its first plans
            try_apply(&mut client, &message("insert", "item", 1, r#"{"id":-1}"#)).expect("a row");
            if limit(&pid, more).is_none() {
                eprintln!("left out: no prlimit");
                return;
            }
            match try_apply(&mut client, batch) {
                Ok(_) => applied += 1,
                Err(error) => {
                    let error = error
                        .as_db_error()
                        .unwrap_or_else(|| panic!("{what} with {more} MB more: the backend died"));
                    assert_eq!(code(error), "53200", "{what} with {more} MB more: {error}");
                    failed += 1;
                }
            }
            // the session goes on
            run(&mut client, "rollback");
            assert_eq!(value(&mut client, "select pg_backend_pid()"), pid);
        }
    }
    println!("{failed} calls failed, {applied} did not");
    assert!(failed > 0);
    assert_eq!(value(&mut database.connect(), started), before);
}
