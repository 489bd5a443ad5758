//! Internal functions that a trigger calls mislead nobody but the trigger's own mapping.

use support::{apply, run, upserted, value};

use super::{Scene, letter, mixed, only_good};

#[test]
fn counting_rows_that_are_not_there() {
    for guard in ["off", "table"] {
        let scene = Scene::with_item(&format!("next_row_{guard}"), &format!("guard => '{guard}'"));
        let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
        run(
            &mut admin,
            &format!("grant usage on schema sequin to {}", scene.mallory),
        );
        run(
            &mut admin,
            &format!(
                "grant execute on function sequin.next_row(), sequin.batch() to {}",
                scene.mallory
            ),
        );
        scene.trigger(
            "begin for i in 1..50 loop perform sequin.next_row(); end loop;
             raise exception 'no'; end",
        );
        only_good(&mut forwarder, 1);
        assert_eq!(letter(&mut admin), "bad|P0001|no|dead");
        scene.trigger(
            "begin for i in 1..50 loop perform sequin.next_row(); end loop; return new; end",
        );
        assert_eq!(apply(&mut forwarder, &mixed(2)), upserted(2));
        scene.trigger("begin perform * from sequin.batch() b(id integer); return new; end");
        only_good(&mut forwarder, 3);
        assert!(letter(&mut admin).starts_with("bad|55000|"));
        assert_eq!(value(&mut admin, "select count(*) from good"), "3");
    }
}
