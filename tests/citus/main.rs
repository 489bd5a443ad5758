//! Tables of Citus as destinations. The tests run where the server offers the extension `citus`
//! (docs/development/citus.md), and say that they are left out elsewhere.
//!
//! `CITUS_FEATURE=name` runs the features whose name contains that.

#![forbid(unsafe_code)]

#[path = "../crash/cluster.rs"]
#[allow(dead_code, reason = "the tests of crashes need more of it")]
mod cluster;
mod features;
mod nodes;
mod scene;
mod sessions;

use std::env;

use support::{apply_error, batch, code, item, message, number, run, send, stale, upserted, value};

use features::FEATURES;
use nodes::{EXTENSION, Nodes};
use scene::{Kind, Scene};

/// Each feature, under each guard, ends with tables of Citus as it does with a plain table.
#[test]
fn every_feature_works_as_on_a_plain_table() {
    let Some(nodes) = Nodes::new("citus_matrix") else {
        return;
    };
    let wanted = env::var("CITUS_FEATURE").unwrap_or_default();
    let (mut failed, mut count) = (Vec::new(), 0);
    let mut matrix = String::new();
    for (name, feature) in FEATURES.iter().filter(|(name, _)| name.contains(&wanted)) {
        for guard in support::GUARDS {
            let ends = |kind: Kind| {
                let mut scene = Scene::new(&nodes, kind, guard);
                feature(&mut scene);
                scene.end()
            };
            let plain = ends(Kind::Plain);
            let mut line = format!("{name:<34} {guard:<8}");
            for kind in [Kind::Distributed, Kind::Reference, Kind::Local] {
                let got = ends(kind);
                count += 1;
                line += if got == plain { " ok" } else { " --" };
                if got != plain {
                    failed.push(format!(
                        "{name}, guard {guard}, {kind:?}:\n{}",
                        scene::difference(&plain, &got)
                    ));
                }
            }
            matrix += &format!("{line}\n");
        }
    }
    eprintln!(
        "{matrix}{} of {count} as on a plain table",
        count - failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Citus makes tables anew: their mappings tell what to run, and keep the versions of their rows.
#[test]
fn tables_that_citus_makes_anew_are_mapped_again() {
    let Some(nodes) = Nodes::new("citus_anew") else {
        return;
    };
    for (guard, again) in [
        ("table", "undistribute_table('item')"),
        ("columns", "undistribute_table('item')"),
        ("table", "alter_distributed_table('item', shard_count := 8)"),
        (
            "columns",
            "alter_distributed_table('item', shard_count := 8)",
        ),
    ] {
        let mut client = nodes.connect();
        run(
            &mut client,
            "create table item (id integer primary key, name text);
             select create_distributed_table('item', 'id')",
        );
        let map =
            format!("select sequin.map('public.item', 'item', name => 'item', guard => '{guard}')");
        run(&mut client, &map);
        send(&mut client, &[item(10, "a"), item(20, "b")]);
        send(
            &mut client,
            &[message("delete", "item", 30, r#"{"id":2,"name":"c"}"#)],
        );
        run(&mut client, &format!("select {again}"));

        assert_eq!(send(&mut client, &[item(40, "d")]).dead, 1, "{again}");
        let state = value(
            &mut client,
            "select state || ': ' || hint from sequin.status where name = 'item'",
        );
        let wanted = "broken: If there is a table in its place, run: SELECT \
                      sequin.alter_mapping('item', destination => 'schema.table');";
        assert!(state.starts_with(wanted), "{state}");
        run(
            &mut client,
            "select sequin.alter_mapping('item', destination => 'public.item'); select sequin.retry('item')",
        );
        assert_eq!(value(&mut client, "select name from item"), "d", "{again}");
        let late = [
            item(20, "b"),
            message("insert", "item", 5, r#"{"id":2,"name":"late"}"#),
        ];
        assert_eq!(send(&mut client, &late), stale(2), "{guard}: {again}");
        assert_eq!(value(&mut client, "select count(*) from item"), "1");
        run(
            &mut client,
            "select sequin.unmap('item'); drop table item; delete from sequin.dead_letter",
        );
    }
}

/// A plain table that is distributed later stays what it is.
#[test]
fn a_table_is_distributed_while_it_is_mapped() {
    let Some(nodes) = Nodes::new("citus_later") else {
        return;
    };
    for guard in support::GUARDS {
        let mut client = nodes.connect();
        run(
            &mut client,
            "create table item (id integer primary key, name text)",
        );
        let map =
            format!("select sequin.map('public.item', 'item', name => 'item', guard => '{guard}')");
        run(&mut client, &map);
        send(&mut client, &[item(10, "a")]);
        run(
            &mut nodes.connect(),
            "select create_distributed_table('item', 'id')",
        );
        assert_eq!(send(&mut client, &[item(20, "b")]), upserted(1));
        if guard != "off" {
            assert_eq!(send(&mut client, &[item(15, "c")]), stale(1));
        }
        assert_eq!(value(&mut client, "select name from item"), "b");
        run(&mut client, "select sequin.unmap('item'); drop table item");
    }
}

/// However many sessions bring the changes.
#[test]
fn sessions_converge() {
    let Some(nodes) = Nodes::new("citus_sessions") else {
        return;
    };
    let seed = number("CITUS_SEED", 7);
    for guard in ["columns", "table"] {
        for round in 0..2 {
            sessions::converge(&nodes, guard, seed + round);
        }
    }
}

/// Each node would order only the changes that come through it.
#[test]
fn other_nodes_than_the_coordinator_refuse() {
    let Some(nodes) = Nodes::new("citus_nodes") else {
        return;
    };
    let mut client = nodes.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select create_distributed_table('item', 'id')",
    );
    let map = "select sequin.map('public.item', 'item', name => 'item')";
    let mut worker = nodes.worker();
    run(&mut worker, "set client_min_messages = error");
    run(&mut worker, EXTENSION);
    run(&mut worker, map);
    let refused = apply_error(&mut worker, &batch(&[item(10, "a")]));
    assert_eq!(code(&refused), "55000");
    assert_eq!(
        refused.message(),
        "this node is not the coordinator of public.item"
    );
    let hint = refused.hint().unwrap_or_default();
    assert!(hint.contains(":5432."), "{hint}");
    let statement = "ALTER DATABASE postgres SET sequin.allow_other_nodes = on;";
    assert!(hint.ends_with(statement), "{hint}");
    assert_eq!(
        value(&mut worker, "select count(*) from sequin.dead_letter"),
        "0"
    );
    run(&mut client, statement);
    let mut worker = nodes.worker();
    assert_eq!(send(&mut worker, &[item(10, "a"), item(20, "b")]).dead, 0);
    assert_eq!(value(&mut client, "select name from item"), "b");
}
