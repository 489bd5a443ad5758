//! `sequin.sync_sequences`, run by a superuser, plans a query of each destination: that can call functions of the table's
//! owner.

use support::{run, value};

use super::Scene;

#[test]
fn the_owner_reads_its_own_table() {
    let scene = Scene::new("sequences");
    let mut admin = scene.admin();
    run(
        &mut scene.mallory(),
        "create table mallory.item (id serial primary key, name text);
         insert into mallory.item (id) values (41);
         create table mallory.ran (who text);
         grant all on mallory.ran to public;
         create function mallory.noted() returns boolean language plpgsql as
             $$ begin insert into mallory.ran values (current_user); return true; end $$;
         create function mallory.is(i integer) returns boolean language plpgsql immutable as
             $$ begin return mallory.noted(); end $$;
         select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'item');
         -- the condition is computed when a query of the table is planned
         create index conditional on mallory.item (id) where mallory.is(1)",
    );
    run(&mut scene.mallory(), "delete from mallory.ran");
    let synced = "select last_value from sequin.sync_sequences('item')";
    assert_eq!(value(&mut admin, synced), "41");
    let who = value(
        &mut admin,
        "select string_agg(distinct who, ',') from mallory.ran",
    );
    assert_eq!(who, scene.mallory);
    assert_eq!(
        value(
            &mut scene.mallory(),
            "select nextval('mallory.item_id_seq')"
        ),
        "42"
    );
}
