//! The triggers of a table do not run as the superuser who maps it.

use support::{apply, message, run, upserted, value};

use super::Scene;

#[test]
fn rows_are_written_as_the_owner_of_the_table() {
    for guard in ["off", "table", "columns"] {
        let scene = Scene::new(&format!("superuser_{guard}"));
        let mut admin = scene.admin();
        run(
            &mut scene.mallory(),
            "create table mallory.item (id integer primary key, name text, who text)",
        );
        run(
            &mut admin,
            &format!(
                "select sequin.map('public.item', 'mallory.item', name => 'item', guard => '{guard}')"
            ),
        );
        scene.trigger(
            "begin
                 if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
                     execute pg_catalog.format('alter role %I superuser', tg_table_schema);
                 end if;
                 new.who = current_user; return new;
             end",
        );
        let insert = message("insert", "item", 1, r#"{"id":1,"name":"x"}"#);
        assert_eq!(
            apply(&mut scene.forwarder(), &insert),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            value(&mut admin, "select who from mallory.item"),
            scene.mallory
        );
        run(
            &mut admin,
            "select sequin.begin_resync('item'); select sequin.finish_resync('item')",
        );
        assert_eq!(value(&mut admin, "select count(*) from mallory.item"), "0");
        // The operator can have it as before.
        run(&mut scene.mallory(), "drop trigger act on mallory.item");
        scene.trigger("begin new.who = current_user; return new; end");
        run(
            &mut admin,
            &format!(
                "alter role {} set sequin.allow_superuser_mappings = on",
                scene.forwarder
            ),
        );
        let insert = message("insert", "item", 99_999_999, r#"{"id":2,"name":"x"}"#);
        assert_eq!(
            apply(&mut scene.forwarder(), &insert),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            value(&mut admin, "select who = current_user from mallory.item"),
            "t"
        );
    }
}
