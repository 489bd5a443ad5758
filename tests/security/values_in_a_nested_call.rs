//! DETAIL with the values of a row reaches only who may read the row.

use support::{message, run, value};

use super::Scene;

#[test]
fn a_security_definer_function_is_told_nothing() {
    let scene = Scene::new("nested_detail");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "create table person (id integer primary key, name text check (name <> ''), salary integer default 4711);
             insert into person values (1, 'n');
             select sequin.map('public.person', 'person', guard => 'off', on_error => 'raise', name => 'person');
             grant execute on function sequin_apply(text) to {}",
            scene.mallory
        ),
    );
    run(
        &mut scene.mallory(),
        "create table mallory.told (detail text);
         create function mallory.spy(batch text) returns void language plpgsql security definer as $$
         declare told text;
         begin
             perform public.sequin_apply(batch);
         exception when others then
             get stacked diagnostics told = pg_exception_detail;
             insert into mallory.told values (told);
         end $$",
    );
    let bad = message("update", "person", 1, r#"{"id":1,"name":""}"#);
    // The superuser calls it, and may read the row; the function's owner may not.
    admin
        .execute("select mallory.spy($1)", &[&bad])
        .expect("the function catches the error");
    assert_eq!(
        value(&mut admin, "select coalesce(detail, '') from mallory.told"),
        ""
    );
}

/// A policy hides rows from who may read the table.
#[test]
fn a_policy_hides_values_too() {
    let scene = Scene::new("policy_detail");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "create table person (id integer primary key, name text check (name <> ''), salary integer default 4711);
             insert into person values (1, 'n');
             alter table person enable row level security;
             grant select on person to {0};
             grant execute on function sequin_apply(text) to {0};
             select sequin.map('public.person', 'person', guard => 'off', on_error => 'raise', name => 'person')",
            scene.mallory
        ),
    );
    let bad = message("update", "person", 1, r#"{"id":1,"name":""}"#);
    let told = support::apply_error(&mut scene.mallory(), &bad);
    assert_eq!(told.code().code(), "23514");
    assert_eq!(told.detail(), None);
}
