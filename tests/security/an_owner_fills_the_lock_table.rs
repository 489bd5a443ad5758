//! The code of an owner's mapping takes so many locks that the server has no room for more.

use support::{apply, apply_error, batch, code, message, rows, run, upserted, value};

use super::cluster::Cluster;

#[test]
fn others_are_written() {
    let cluster = Cluster::with("lock_table", &["max_locks_per_transaction=10"]);
    let mut admin = cluster.connect("postgres");
    run(
        &mut admin,
        r#"create extension pg_sequin;
           create role mallory;
           create schema mallory authorization mallory;
           create table good (id integer primary key);
           create table mallory.by_trigger (id integer primary key);
           create table mallory.by_sql (id integer primary key, n bigint);
           alter table mallory.by_trigger owner to mallory;
           alter table mallory.by_sql owner to mallory;
           create function mallory.act() returns trigger language plpgsql as
               $$ begin perform pg_advisory_xact_lock(n) from generate_series(1, 100000) n; return new; end $$;
           create trigger act before insert on mallory.by_trigger for each row execute function mallory.act();
           select sequin.map('public.good', 'good', guard => 'off');
           select sequin.map('public.by_trigger', 'mallory.by_trigger', guard => 'off');
           select sequin.map('public.by_sql', 'mallory.by_sql', guard => 'off', columns =>
               '{"id": "record.id", "n": {"sql": "(select count(pg_advisory_xact_lock(n)) from generate_series(1, 100000) n)"}}')"#,
    );
    let row = |table: &str, id: u64| message("insert", table, id, &format!(r#"{{"id":{id}}}"#));
    for table in ["by_trigger", "by_sql"] {
        let counts = apply(
            &mut admin,
            &batch(&[row("good", 1), row(table, 1), row("good", 2), row(table, 2)]),
        );
        assert_eq!((counts.received, counts.dead), (4, 2), "{table}");
        let letters = "delete from sequin.dead_letter returning state, sqlstate, error";
        let letters = rows(&mut admin, letters);
        assert_eq!(letters, ["dead|53200|out of shared memory"; 2], "{table}");
        assert_eq!(value(&mut admin, "select count(*) from good"), "2");
    }
    // Where others have filled it, it is no message's fault.
    let mut other = cluster.connect("postgres");
    run(
        &mut other,
        "begin;
         do $$ begin
             for n in 1..100000 loop
                 begin perform pg_advisory_xact_lock(1, n); exception when out_of_memory then exit; end;
             end loop;
         end $$",
    );
    let refused = apply_error(&mut admin, &row("by_trigger", 3));
    assert_eq!(code(&refused), "53200");
    run(&mut other, "rollback");
    assert_eq!(apply(&mut admin, &row("good", 3)), upserted(1));
}
