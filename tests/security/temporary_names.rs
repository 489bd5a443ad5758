//! A forwarder's temporary objects do not stand in for those that a mapping's SQL names.

use support::{Database, apply, code, error, message, run, upserted, value};

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
