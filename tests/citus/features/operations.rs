//! What an operator does: resync, letters, reports, changes of a mapping.

use support::Message;

use super::rows::{insert, moved};
use crate::scene::Scene;

pub fn resynced(scene: &mut Scene, more: &str, finish: &str) {
    scene.table(
        "item",
        "id integer primary key, name text, body text, gone timestamptz",
    );
    scene.map("item", more);
    let all: Vec<Message> = (1..=10)
        .map(|i| {
            scene.message(
                "insert",
                "item",
                10 + i,
                &format!(r#"{{"id":{i},"name":"a"}}"#),
            )
        })
        .collect();
    scene.send(&all);
    scene.run("insert into item values (11, 'by hand'), (12, 'by hand')");
    scene.show("select sequin.begin_resync('@_item') is not null");
    scene.show("select sequin.finish_resync('@_item', dry_run => true, min_confirmed => 0)");
    scene.show("select sequin.finish_resync('@_item')");
    let reads: Vec<Message> = (3..=9)
        .map(|i| scene.message("read", "item", 1000, &format!(r#"{{"id":{i},"name":"r"}}"#)))
        .collect();
    scene.send(&reads);
    scene.send(&[
        moved(scene, 2000, 9, 20, "moved"),
        scene.message("insert", "item", 2001, r#"{"id":21,"name":"new"}"#),
    ]);
    scene.show("select sequin.finish_resync('@_item', dry_run => true)");
    scene.look();
    scene.show(finish);
    scene.show("select count(*), count(gone) from item");
    scene.run("update item set gone = '2026-01-01' where gone is not null");
    scene.look();
    scene.items(&[("insert", 11, r#"{"id":1,"name":"late"}"#)]);
    scene.items(&[("insert", 5000, r#"{"id":1,"name":"back"}"#)]);
}

pub fn resync(scene: &mut Scene) {
    resynced(scene, "", "select sequin.finish_resync('@_item')");
}

pub fn resync_in_portions(scene: &mut Scene) {
    resynced(
        scene,
        "",
        "call sequin.finish_resync_in_portions('@_item', portion => 2)",
    );
}

pub fn resync_soft(scene: &mut Scene) {
    resynced(
        scene,
        ", on_delete => 'soft', soft_delete => 'gone'",
        "select sequin.finish_resync('@_item')",
    );
}

pub fn dead_letters(scene: &mut Scene) {
    scene.table(
        "item",
        "id integer primary key, name text not null, n integer check (n > 0)",
    );
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","n":1}"#),
        ("insert", 11, r#"{"id":2,"name":"b","n":"two"}"#),
        ("insert", 12, r#"{"id":3,"name":"c","n":-3}"#),
        ("insert", 13, r#"{"id":4,"name":null,"n":4}"#),
        ("insert", 14, r#"{"id":5,"name":"e","n":5}"#),
        ("insert", 15, r#"{"name":"f","n":5}"#),
    ]);
    scene.look();
    scene.items(&[("update", 20, r#"{"id":5,"name":"e","n":-5}"#)]);
}

pub fn superseded(scene: &mut Scene) {
    dead_letters(scene);
    scene.items(&[
        ("update", 30, r#"{"id":3,"name":"c","n":3}"#),
        ("update", 31, r#"{"id":5,"name":"e","n":5}"#),
        ("delete", 32, r#"{"id":4}"#),
    ]);
}

pub fn retry(scene: &mut Scene) {
    dead_letters(scene);
    scene.run("alter table item drop constraint item_n_check");
    scene.show("select * from sequin.retry('@_item')");
    scene.look();
    scene.run("alter table item alter column name drop not null");
    scene.show("call sequin.retry_all('@_item')");
}

pub fn several_tables(scene: &mut Scene) {
    scene.table("item", "id integer primary key, name text");
    scene.table("other", "id bigint primary key, at timestamptz");
    scene.run("create table plain (id integer primary key, name text)");
    for table in ["item", "other", "plain"] {
        scene.map(table, "");
    }
    let mut all = Vec::new();
    for i in 1..=10 {
        all.push(scene.message(
            "insert",
            "item",
            10 + i,
            &format!(r#"{{"id":{i},"name":"a"}}"#),
        ));
        let at = format!(r#"{{"id":{i},"at":"2026-02-03T04:05:06Z"}}"#);
        all.push(scene.message("insert", "other", 30 + i, &at));
        all.push(scene.message(
            "insert",
            "plain",
            50 + i,
            &format!(r#"{{"id":{i},"name":"p"}}"#),
        ));
    }
    scene.send(&all);
    scene.look();
    scene.send(&[
        scene.message("delete", "item", 100, r#"{"id":1}"#),
        scene.message(
            "update",
            "other",
            101,
            r#"{"id":1,"at":"2027-02-03T04:05:06Z"}"#,
        ),
        scene.message("update", "plain", 102, r#"{"id":"x","name":"p"}"#),
        scene.message("update", "plain", 103, r#"{"id":2,"name":"P"}"#),
    ]);
}

pub fn explain(scene: &mut Scene) {
    scene.item();
    scene.show("select count(*) > 3 from sequin.explain('@_item')");
    scene.show("select state, error from sequin.check() where mapping = '@_item'");
}

pub fn explain_batch(scene: &mut Scene) {
    insert(scene);
    let all = support::batch(&[
        scene.message("insert", "item", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        scene.message("update", "item", 50, r#"{"id":2,"name":"B","body":"x"}"#),
        scene.message("delete", "item", 51, r#"{"id":3}"#),
        scene.message("insert", "item", 52, r#"{"id":9,"name":"new"}"#),
    ]);
    scene.show(&format!(
        "select position, key, outcome, before - 'sequin_committed_at', after - 'sequin_committed_at'
         from sequin.explain_batch('{all}')"
    ));
}

pub fn fingerprint(scene: &mut Scene) {
    insert(scene);
    scene.show("select * from sequin.fingerprint('@.item', array['id', 'name', 'body'])");
}

pub fn forget(scene: &mut Scene) {
    insert(scene);
    scene.show("select sequin.forget_versions('@_item')");
    scene.items(&[("update", 1, r#"{"id":1,"name":"restored","body":"x"}"#)]);
}

pub fn other_guard(scene: &mut Scene) {
    insert(scene);
    let to = match scene.guard {
        "table" => "columns",
        _ => "table",
    };
    scene.show(&format!(
        "select sequin.alter_mapping('@_item', guard => '{to}') is not null"
    ));
    scene.look();
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"old","body":"x"}"#),
        ("update", 50, r#"{"id":2,"name":"new","body":"x"}"#),
    ]);
    scene.look();
    scene.show(&format!(
        "select sequin.alter_mapping('@_item', guard => '{}') is not null",
        scene.guard
    ));
    scene.items(&[("insert", 10, r#"{"id":1,"name":"old","body":"x"}"#)]);
}

pub fn other_key(scene: &mut Scene) {
    insert(scene);
    scene.run("delete from item where name is null");
    scene.run("alter table item drop constraint item_pkey");
    scene.run("alter table item add primary key (id, name)");
    scene.show("update sequin.mapping set key = null where name = '@_item'");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"old"}"#),
        ("update", 50, r#"{"id":2,"name":"b","body":"new"}"#),
    ]);
}

pub fn partitioned(scene: &mut Scene) {
    scene.run(
        "create table item (id integer, day date, name text, primary key (id, day)) partition by range (day);
         create table item_1 partition of item for values from ('2026-01-01') to ('2026-02-01');
         create table item_2 partition of item for values from ('2026-02-01') to ('2026-03-01')",
    );
    // Citus has no partitioned reference tables.
    if scene.is_distributed() {
        scene.spread(&[("item", "id")]);
    }
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"day":"2026-01-05","name":"a"}"#),
        ("insert", 11, r#"{"id":2,"day":"2026-02-05","name":"b"}"#),
        ("insert", 12, r#"{"id":3,"day":"2026-03-05","name":"c"}"#),
    ]);
    scene.look();
    scene.items(&[
        ("update", 20, r#"{"id":1,"day":"2026-01-05","name":"A"}"#),
        ("delete", 21, r#"{"id":2,"day":"2026-02-05","name":"b"}"#),
    ]);
    let day = scene
        .message(
            "update",
            "item",
            30,
            r#"{"id":1,"day":"2026-02-07","name":"moved"}"#,
        )
        .changes(r#"{"day":"2026-01-05"}"#);
    scene.send(&[day]);
    scene.look();
    scene.run(
        "create table item_3 partition of item for values from ('2026-03-01') to ('2026-04-01')",
    );
    scene.show("select * from sequin.retry('@_item')");
}

pub fn two_mappings(scene: &mut Scene) {
    scene.run("create table item (source text, id integer, name text, primary key (source, id))");
    scene.spread(&[("item", "id")]);
    let (name, guard) = (scene.name.clone(), scene.guard);
    for source in ["one", "two"] {
        scene.run(&format!(
            r#"select sequin.map('{name}.{source}', '{name}.item', name => '{name}_{source}', guard => '{guard}',
                   columns => '{{"source": "metadata.table_name", "*": "record.*"}}')"#
        ));
    }
    for (lsn, source) in [(10, "one"), (20, "two")] {
        let all: Vec<_> = (1..=3)
            .map(|i| {
                scene.message(
                    "insert",
                    source,
                    lsn + i,
                    &format!(r#"{{"id":{i},"name":"a"}}"#),
                )
            })
            .collect();
        scene.send(&all);
    }
    scene.show("select sequin.begin_resync('@_one') is not null");
    scene.send(&[scene.message("read", "one", 1000, r#"{"id":1,"name":"r"}"#)]);
    scene.show("select sequin.finish_resync('@_one', dry_run => true, min_confirmed => 0)");
    scene.show("select sequin.finish_resync('@_one', min_confirmed => 0)");
    scene.show("select source, id, name from item order by 1, 2");
    scene.run(&format!(
        "select sequin.unmap('{name}_one'), sequin.unmap('{name}_two')"
    ));
}
