//! Whatever code an owner can attach to her tables, types and mappings runs as her, whoever calls what of the extension.

use support::{Message, apply, batch, message, run, value};

use super::Scene;

/// The numbers of the pieces of code. That of the cast is 13: nothing calls it.
const HOOKS: [u8; 19] = [
    11, 12, 13, 21, 22, 23, 24, 25, 41, 42, 43, 44, 45, 46, 47, 51, 52, 53, 54,
];

/// The code is called with a number. If it does not run as Mallory, the number stays in a sequence, whatever is rolled
/// back.
fn attached(mallory: &str) -> String {
    format!(
        "create sequence mallory.caught;
         do $$
         declare what integer;
         begin
             foreach what in array array{HOOKS:?} loop
                 execute format('create sequence mallory.ran_%s', what);
             end loop;
         end $$;
         create function mallory.seen(what integer) returns boolean language plpgsql immutable as $$
         begin
             perform nextval('mallory.ran_' || what);
             if current_user <> '{mallory}' then
                 perform setval('mallory.caught', what);
                 raise warning 'code % runs as %', what, current_user;
             end if;
             return true;
         end $$;
         create function mallory.act() returns trigger language plpgsql as $$
         begin
             perform mallory.seen(tg_argv[0]::integer);
             return coalesce(new, old);
         end $$;
         create function mallory.told(value text, what integer) returns text language sql immutable as
             $$ select case when mallory.seen(what) then value end $$;
         create domain mallory.number as integer check (mallory.seen(11));
         create domain mallory.name as text check (mallory.seen(12) and value <> 'refused');
         create type mallory.pair as (a mallory.number, b mallory.name);
         create function mallory.of_text(t text) returns mallory.pair language sql as
             $$ select row(1, mallory.told(t, 13))::mallory.pair $$;
         create cast (text as mallory.pair) with function mallory.of_text(text) as assignment;
         create table mallory.parent (
             id mallory.number primary key, code mallory.name unique,
             made text default mallory.told('x', 21) check (mallory.seen(22)),
             twice text generated always as (mallory.told(code, 23)) stored);
         create index on mallory.parent (mallory.told(made, 24)) where mallory.seen(25);
         create table mallory.child (
             id mallory.name, part integer, parent mallory.number references mallory.parent on delete cascade, pair mallory.pair,
             list mallory.name[], gone boolean, primary key (id, part)) partition by range (part);
         create table mallory.child_part partition of mallory.child default;
         create table mallory.reference (
             id serial primary key, parent mallory.number references mallory.parent on delete set null on update cascade);
         insert into mallory.reference (parent) values (null);
         do $$
         declare t text;
         begin
             foreach t in array '{{parent,child,reference}}'::text[] loop
                 execute format('create trigger a before insert or update or delete on mallory.%I for each row
                                 execute function mallory.act(41)', t);
                 execute format('create trigger b after insert or update or delete on mallory.%I for each row
                                 execute function mallory.act(42)', t);
                 execute format('create trigger c before insert or update or delete on mallory.%I for each statement
                                 execute function mallory.act(43)', t);
                 execute format('create constraint trigger d after insert or update or delete on mallory.%I
                                 deferrable initially deferred for each row execute function mallory.act(44)', t);
                 execute format('alter table mallory.%I enable row level security', t);
                 execute format('alter table mallory.%I force row level security', t);
                 execute format('create policy p on mallory.%I using (mallory.seen(45)) with check (mallory.seen(46))', t);
             end loop;
         end $$;
         create trigger e before insert or update on mallory.child_part for each row execute function mallory.act(47);
         select sequin.map('public.parent', 'mallory.parent', guard => 'table', name => 'parent',
             columns => '{{\"*\": \"record.*\", \"made\": {{\"sql\": \"mallory.told(record->>''made'', 51)\"}}}}',
             filter => 'mallory.seen(52)');
         select sequin.map('public.child', 'mallory.child', guard => 'table', name => 'child', on_delete => 'soft',
             soft_delete => 'gone')"
    )
}

fn parent(action: &str, n: u64, id: u64, code: &str) -> String {
    let record = format!(r#"{{"id":{id},"code":"{code}","made":"m"}}"#);
    message(action, "parent", n, &record)
}

fn child(action: &str, n: u64, id: u64, of: u64, name: &str) -> String {
    let record = format!(
        r#"{{"id":"{id}","part":1,"parent":{of},"pair":{{"a":1,"b":"{name}"}},"list":["{name}"],"gone":false}}"#
    );
    message(action, "child", n, &record)
}

#[test]
fn an_owners_code_runs_as_the_owner() {
    let scene = Scene::new("whose_code");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(&mut scene.mallory(), &attached(&scene.mallory));
    let caught = |admin: &mut postgres::Client, what: &str| {
        let by = value(admin, "select last_value, is_called from mallory.caught");
        assert_eq!(by, "1|f", "{what}");
    };
    let mut n = 0;
    for of_admin in [true, false] {
        let client = if of_admin { &mut admin } else { &mut forwarder };
        // written, waiting, refused; retried by what comes
        let first = batch(&[
            parent("insert", n + 1, n + 1, &format!("c{n}")),
            child("insert", n + 2, n + 1, n + 1, "a"),
            child("insert", n + 3, n + 2, n + 2, "a"),
            child("insert", n + 4, n + 3, n + 1, "refused"),
            parent("insert", n + 5, n + 5, "refused"),
        ]);
        assert_eq!(apply(client, &first).dead, 3);
        assert_eq!(
            apply(client, &parent("insert", n + 6, n + 2, &format!("d{n}"))).upserted,
            1
        );
        // the key, the unique value, and the references change; rows go
        let record = format!(r#"{{"id":{},"code":"e{n}","made":"m"}}"#, n + 9);
        let moved = Message::new("update", "parent", n + 7, record)
            .changes(format!(r#"{{"id":{},"code":"d{n}"}}"#, n + 2))
            .to_string();
        apply(
            client,
            &batch(&[moved, child("update", n + 8, n + 2, n + 9, "b")]),
        );
        apply(client, &child("delete", n + 10, n + 2, n + 9, "b"));
        apply(client, &parent("delete", n + 11, n + 1, ""));
        apply(client, &parent("delete", n + 12, n + 9, ""));
        for action in ["insert", "delete"] {
            n += 1;
            apply(client, &parent(action, n + 13, 1000, &format!("f{n}")));
        }
        n += 20;
        caught(
            &mut scene.admin(),
            if of_admin {
                "a superuser applies"
            } else {
                "a forwarder applies"
            },
        );
    }
    // Nothing confirms it.
    run(
        &mut scene.mallory(),
        "insert into mallory.parent (id, code) values (2000, 'unconfirmed')",
    );
    let insert = parent("insert", 90, 90, "r");
    for sql in [
        "select * from sequin.explain('parent')",
        "select * from sequin.explain('child')",
        &format!("select * from sequin.explain_batch('{insert}')"),
        &format!("select * from sequin.explain('{insert}'::jsonb)"),
        "select * from sequin.status",
        "select * from sequin.waiting",
        "select * from sequin.versions",
        "select * from sequin.own_dead_letter",
        "select sequin.retry(min(id)) from sequin.dead_letter",
        "select sequin.retry('child'::text)",
        "select sequin.retry()",
        "call sequin.retry_all()",
        "select sequin.begin_resync('parent')",
        "select sequin.finish_resync('parent', dry_run => true)",
        "select sequin.finish_resync('parent', min_confirmed => 0)",
        "select sequin.begin_resync('child')",
        "call sequin.finish_resync_in_portions('child', min_confirmed => 0)",
        "select sequin.alter_mapping('parent', filter => 'mallory.seen(53)')",
        &format!("select sequin_apply('{insert}'::text)"),
        "select sequin.alter_mapping('parent', columns => '{\"*\": \"record.*\"}')",
        "select sequin.alter_mapping('child', on_delete => 'delete', reset => '{soft_delete}')",
        "update sequin.mapping set enabled = true where name = 'parent'",
        "select sequin.forget_versions('child')",
        "select sequin.map_schema('other', 'mallory')",
        "select sequin.map('public.more', 'mallory.parent', name => 'more', filter => 'mallory.seen(54)')",
        "select sequin.unmap('parent')",
    ] {
        run(&mut admin, sql);
        caught(&mut admin, sql);
    }
    // a superuser's mapping to her table
    for of in ["insert", "update", "delete"] {
        apply(
            &mut forwarder,
            &message(of, "more", 100, r#"{"id":100,"code":"x"}"#),
        );
        caught(&mut admin, of);
    }
    let never = "select string_agg(sequencename, ' ') from pg_sequences
                 where schemaname = 'mallory' and sequencename like 'ran%' and last_value is null";
    assert_eq!(value(&mut admin, never), "ran_13");
}
