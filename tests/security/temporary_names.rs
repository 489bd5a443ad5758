//! A forwarder's temporary objects do not stand in for those that a mapping's SQL names.

use support::{Database, apply, code, error, message, run, try_apply, upserted, value};

#[test]
fn a_temporary_view_does_not_hide_a_table() {
    let mut database = Database::new("temporary_names");
    let forwarder = database.role("forwarder");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            r#"create table cities (id integer primary key, city text); insert into cities values (1, 'Oslo');
               create table people (id integer primary key, city text);
               select sequin.map('public.people', 'people', guard => 'off', name => 'people',
                   filter => 'exists (select from cities)',
                   columns => '{{"*": "record.*", "city": {{"sql": "(select c.city from cities c where c.id = (record->>''c'')::int)"}}}}');
               grant execute on function sequin_apply(text) to {forwarder}"#
        ),
    );
    let mut client = database.connect_as(&forwarder);
    run(
        &mut client,
        &format!(
            "create function pg_temp.evil() returns text language plpgsql as
                 $$ begin execute 'alter role {forwarder} superuser'; return 'x'; end $$;
             create temp view cities as select 1 as id, pg_temp.evil() as city;
             grant select on cities to public;
             create domain pg_temp.int as integer check (pg_temp.evil() = '')"
        ),
    );
    let person = |lsn| message("insert", "people", lsn, r#"{"id":1,"c":1}"#);
    assert_eq!(apply(&mut client, &person(1)), upserted(1));
    // The paths that name pg_temp, and kept plans.
    for path in ["pg_temp, public", "public", "\"pg_temp\", \"public\""] {
        run(
            &mut admin,
            &format!("update sequin.mapping set search_path = '{path}'"),
        );
        assert_eq!(apply(&mut client, &person(2)), upserted(1), "{path}");
        assert_eq!(apply(&mut client, &person(3)), upserted(1), "{path}");
    }
    assert_eq!(value(&mut admin, "table people"), "1|Oslo");
    let is_super = format!("select rolsuper from pg_roles where rolname = '{forwarder}'");
    assert_eq!(value(&mut admin, &is_super), "f");
}

#[test]
fn a_search_path_is_a_list_of_names() {
    let database = Database::new("malformed_path");
    let mut admin = database.connect();
    run(
        &mut admin,
        "create table t (id integer primary key);
         select sequin.map('public.t', 't', guard => 'off', name => 't')",
    );
    for path in ["a b", "public,", "\"public", ","] {
        let refused = error(
            &mut admin,
            &format!("update sequin.mapping set search_path = '{path}'"),
        );
        assert_eq!(code(&refused), "22023", "{path}");
        assert!(refused.hint().is_some());
    }
}

/// A name that has no other object any more: the table has another name now, the owner may not use its schema, the
/// domain is gone.
#[test]
fn a_temporary_object_does_not_fill_a_gap() {
    let mut database = Database::new("temporary_gap");
    let forwarder = database.role("forwarder");
    let mut admin = database.connect();
    let objects = [
        ("table", "(select c.city from cities c limit 1)"),
        (
            "table",
            "(with c as (select * from cities) select max(city) from c)",
        ),
        ("table", "public.city()"),
        ("table", "public.city_of_plpgsql()"),
        ("domain", "(record->>'id')::mood::text"),
        ("domain", "(1::text)::mood::text"),
        // A literal is read before anything is planned.
        ("domain", "('{x}'::mood[])[1]::text"),
        ("domain", "public.mood_of_sql()"),
        ("domain", "public.mood_of_plpgsql()"),
    ];
    run(
        &mut admin,
        &format!(
            "create table cities (id integer primary key, city text); insert into cities values (1, 'Oslo');
             create domain mood as text;
             create function city() returns text language sql as 'select max(city) from cities';
             create function city_of_plpgsql() returns text language plpgsql as
                 'begin return (select city from cities where id = 1); end';
             create function mood_of_sql() returns text language sql as $$ select ('{{x}}'::mood[])[1]::text $$;
             create function mood_of_plpgsql() returns text language plpgsql as
                 $$ begin return ('{{x}}'::mood[])[1]::text; end $$;
             create table people (id integer primary key, city text);
             grant execute on function sequin_apply(text) to {forwarder}"
        ),
    );
    for (n, (_, sql)) in objects.iter().enumerate() {
        run(
            &mut admin,
            &format!(
                "select sequin.map('public.people_{n}', 'people', guard => 'off', name => 'people_{n}', key => '{{id}}',
                     columns => jsonb_build_object('id', 'record.id', 'city', jsonb_build_object('sql', $s${sql}$s$)))"
            ),
        );
    }
    let plant = format!(
        "create function pg_temp.evil() returns text language plpgsql immutable as
             $$ begin
                    begin execute 'alter role {forwarder} superuser'; exception when others then null; end;
                    return 'x';
                end $$;
         create temp view cities as select 1 as id, pg_temp.evil() as city;
         grant select on cities to public;
         create domain pg_temp.mood as text check (pg_temp.evil() = 'x')"
    );
    let person = |n: usize, lsn| message("insert", &format!("people_{n}"), lsn, r#"{"id":1}"#);
    let mut kept = database.connect_as(&forwarder);
    // Its own plans of the owner's functions, with the search_path of the mappings.
    let own = "set search_path = public, pg_temp; select city(), city_of_plpgsql(), mood_of_sql(), mood_of_plpgsql();";
    for (n, _) in objects.iter().enumerate() {
        for lsn in 1..8 {
            assert_eq!(apply(&mut kept, &person(n, lsn)), upserted(1));
        }
    }
    run(
        &mut admin,
        "alter table cities rename to towns; alter domain mood rename to humour",
    );
    let mut fresh = database.connect_as(&forwarder);
    for client in [&mut kept, &mut fresh] {
        run(client, &plant);
        run(client, &own.repeat(3));
        // The session's own tables are there for the session.
        let staged = format!(
            "create temp table stage as select $m${}$m$::text as batch",
            person(0, 8)
        );
        run(client, &staged);
        let apply_staged =
            "select (sequin_apply(batch)).stale + (sequin_apply(batch)).dead from stage";
        assert!(["1", "2"].contains(&&*value(client, apply_staged)));
        assert_eq!(value(client, "select count(*) from stage, cities"), "1");
        for (n, (_, sql)) in objects.iter().enumerate() {
            // A function that was compiled before the library was loaded fails the call once.
            let counts = try_apply(client, &person(n, 9));
            let counts = counts.unwrap_or_else(|_| apply(client, &person(n, 9)));
            assert_eq!(counts.dead, 1, "{sql}");
        }
    }
    assert_eq!(
        value(
            &mut admin,
            "select string_agg(distinct sqlstate, ' ') from sequin.dead_letter"
        ),
        "42704 42P01"
    );
    let is_super = format!("select rolsuper from pg_roles where rolname = '{forwarder}'");
    assert_eq!(value(&mut admin, &is_super), "f");
    // a table of the owner's own session is no stranger's
    let mut owner = database.connect();
    run(
        &mut owner,
        "create temp table cities (id integer, city text); insert into cities values (1, 'Bergen')",
    );
    assert_eq!(apply(&mut owner, &person(0, 10)), upserted(1));
}
