//! `sequin.fingerprint` on somebody's table runs none of that owner's casts.

use support::{rows, run, value};

use super::Scene;

#[test]
fn output_functions_only() {
    let scene = Scene::new("casts");
    let (mut admin, mut mallory) = (scene.admin(), scene.mallory());
    run(
        &mut mallory,
        "create table mallory.log (who text);
         create type mallory.color as enum ('red', 'blue');
         create type mallory.pair as (c mallory.color, n integer);
         create domain mallory.shade as mallory.color;
         create table mallory.item (id integer primary key, c mallory.color, d mallory.shade,
                                    a mallory.color[], p mallory.pair);
         insert into mallory.item values (1, 'red', 'blue', '{red,null}', '(red,1)'), (2, null, null, null, null)",
    );
    let before = rows(
        &mut admin,
        "select * from sequin.fingerprint('mallory.item')",
    );
    for (n, of) in ["color", "color[]", "pair"].into_iter().enumerate() {
        run(
            &mut mallory,
            &format!(
                "create function mallory.f{n}(mallory.{of}) returns text language plpgsql as $$
                 begin insert into mallory.log values (current_user); return 'x'; end $$;
                 create cast (mallory.{of} as text) with function mallory.f{n}(mallory.{of});
                 create function mallory.g{n}(mallory.{of}) returns json language plpgsql as $$
                 begin insert into mallory.log values (current_user); return '1'; end $$;
                 create cast (mallory.{of} as json) with function mallory.g{n}(mallory.{of})"
            ),
        );
    }
    // The function is stable, so that what the cast writes would also be an error.
    assert_eq!(
        rows(
            &mut admin,
            "select * from sequin.fingerprint('mallory.item')"
        ),
        before
    );
    let query = value(
        &mut admin,
        "select sequin.fingerprint_query('mallory.item')",
    );
    assert_eq!(rows(&mut admin, &query), before);
    assert_eq!(value(&mut admin, "select count(*) from mallory.log"), "0");
}
