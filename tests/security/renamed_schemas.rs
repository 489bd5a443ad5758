//! A schema gets the name of another one while a call runs: its tables are not written in place of the mapped ones.

use support::{apply, batch, message, rows, run, value};

use super::Scene;

/// Mallory owns the schema of the superuser's table, and another one with a table of the same name. A function that her
/// mapping calls lets them change names.
#[test]
fn the_mapped_table_is_written_and_no_other() {
    for guard in ["off", "table"] {
        for action in ["insert", "update", "delete"] {
            renamed(guard, action);
        }
    }
}

fn renamed(guard: &str, action: &str) {
    let scene = Scene::new(&format!("renamed_{guard}_{action}"));
    let mut admin = scene.admin();
    let (app, evil) = ("app", "evil");
    let database = value(&mut admin, "select current_database()");
    run(
        &mut admin,
        &format!(
            "grant create on database {database} to {mallory};
             create schema {app} authorization {mallory};
             create schema {evil} authorization {mallory};
             create table {app}.kept (id integer primary key, name text);
             create table mallory.item (id integer primary key, name text);
             alter table mallory.item owner to {mallory}",
            mallory = scene.mallory
        ),
    );
    run(
        &mut scene.mallory(),
        &format!(
            "create table {evil}.kept (id integer primary key, name text);
             create table mallory.ran (who text);
             grant all on mallory.ran to public;
             create function mallory.act() returns trigger language plpgsql as $$
             begin
                 insert into mallory.ran values (current_user); return coalesce(new, old);
             end $$;
             create trigger act before insert or update or delete on {evil}.kept
                 for each row execute function mallory.act();
             insert into {evil}.kept values (1, 'old'); delete from mallory.ran;
             create function mallory.rename(t text) returns text language plpgsql as $$
             begin
                 if t = 'now' then
                     alter schema {app} rename to {app}_before;
                     alter schema {evil} rename to {app};
                 end if;
                 return t;
             end $$;
             select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'bad', columns =>
                 '{{\"id\": \"record.id\", \"name\": {{\"sql\": \"mallory.rename(record->>''name'')\"}}}}')"
        ),
    );
    run(
        &mut admin,
        &format!(
            "select sequin.map('public.kept', '{app}.kept', guard => '{guard}', name => 'kept')"
        ),
    );
    let mut forwarder = scene.forwarder();
    let kept = |action: &str, lsn: u64, name: &str| {
        message(
            action,
            "kept",
            lsn,
            &format!(r#"{{"id":1,"name":"{name}"}}"#),
        )
    };
    // the plans are kept
    for lsn in [1, 2] {
        let item = message("insert", "item", lsn, r#"{"id":1,"name":"not yet"}"#);
        apply(&mut forwarder, &batch(&[item, kept("insert", lsn, "one")]));
    }
    let item = message("insert", "item", 3, r#"{"id":1,"name":"now"}"#);
    apply(&mut forwarder, &batch(&[item, kept(action, 3, "two")]));
    assert_eq!(
        rows(&mut admin, "select distinct who from mallory.ran"),
        Vec::<String>::new(),
        "{guard} {action}"
    );
    // The next call finds the table under its new name.
    apply(&mut forwarder, &kept("insert", 4, "three"));
    assert_eq!(
        value(&mut admin, &format!("select name from {app}_before.kept")),
        "three"
    );
    assert_eq!(
        rows(
            &mut admin,
            "select mapping from sequin.dead_letter where mapping = 'kept'"
        ),
        Vec::<String>::new()
    );
}
