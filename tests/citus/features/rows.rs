//! What happens to rows.

use support::Message;

use crate::scene::Scene;

pub fn insert(scene: &mut Scene) {
    scene.item();
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        ("insert", 11, r#"{"id":2,"name":"b"}"#),
        ("insert", 12, r#"{"id":3,"name":null,"body":"z"}"#),
    ]);
    scene.items(&[("insert", 20, r#"{"id":4,"name":"d","body":"x"}"#)]);
}

pub fn many_inserts(scene: &mut Scene) {
    scene.item();
    let all: Vec<Message> = (1..=300)
        .map(|i| {
            let record = format!(r#"{{"id":{i},"name":"n{i}","body":"b{}"}}"#, i % 7);
            scene.message("insert", "item", 10 + i, &record)
        })
        .collect();
    scene.send(&all);
    scene.look();
    scene.send(&all);
}

pub fn update(scene: &mut Scene) {
    insert(scene);
    scene.items(&[
        ("update", 30, r#"{"id":1,"name":"A","body":"X"}"#),
        ("update", 31, r#"{"id":3,"name":"C","body":null}"#),
    ]);
    scene.items(&[("update", 40, r#"{"id":2,"name":"B","body":"Y"}"#)]);
}

pub fn update_first(scene: &mut Scene) {
    scene.item();
    scene.items(&[("update", 30, r#"{"id":1,"name":"A","body":"X"}"#)]);
    scene.items(&[("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#)]);
}

pub fn delete(scene: &mut Scene) {
    insert(scene);
    scene.items(&[
        ("delete", 30, r#"{"id":1,"name":"a","body":"x"}"#),
        ("delete", 31, r#"{"id":9,"name":null,"body":null}"#),
    ]);
    scene.look();
    scene.items(&[
        ("insert", 15, r#"{"id":1,"name":"a","body":"x"}"#),
        ("insert", 16, r#"{"id":9,"name":"late","body":"x"}"#),
    ]);
    scene.look();
    scene.items(&[("insert", 50, r#"{"id":1,"name":"again","body":"x"}"#)]);
    scene.items(&[
        ("delete", 60, r#"{"id":1}"#),
        ("insert", 61, r#"{"id":1,"name":"once more","body":"x"}"#),
        ("delete", 62, r#"{"id":2}"#),
    ]);
}

pub fn moved(scene: &Scene, lsn: u64, from: i64, to: i64, name: &str) -> Message {
    let record = format!(r#"{{"id":{to},"name":"{name}","body":"x"}}"#);
    scene
        .message("update", "item", lsn, &record)
        .changes(format!(r#"{{"id":{from}}}"#))
}

pub fn key_change(scene: &mut Scene) {
    insert(scene);
    scene.send(&[moved(scene, 30, 1, 101, "moved")]);
    scene.look();
    scene.send(&[
        moved(scene, 40, 101, 201, "again"),
        moved(scene, 41, 201, 301, "and again"),
        moved(scene, 42, 2, 102, "two"),
    ]);
    scene.look();
    scene.items(&[("insert", 15, r#"{"id":1,"name":"late","body":"x"}"#)]);
    scene.send(&[moved(scene, 50, 77, 78, "from nowhere")]);
}

pub fn key_exchange(scene: &mut Scene) {
    insert(scene);
    let all = [
        moved(scene, 30, 1, 99, "a").idx(0),
        moved(scene, 30, 2, 1, "b").idx(1),
        moved(scene, 30, 99, 2, "a").idx(2),
    ];
    scene.send(&all);
    scene.look();
    let shift = [
        moved(scene, 40, 1, 2, "b").idx(0),
        moved(scene, 40, 2, 3, "a").idx(1),
        moved(scene, 40, 3, 4, "c").idx(2),
        moved(scene, 40, 4, 5, "d").idx(3),
    ];
    scene.send(&shift);
}

pub fn own_columns(scene: &mut Scene) {
    scene.table(
        "item",
        "id integer primary key, name text, body text, own text default 'none', n integer default 7",
    );
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        ("insert", 11, r#"{"id":2,"name":"b","body":"y"}"#),
    ]);
    scene.run("update item set own = 'kept', n = 8");
    scene.send(&[moved(scene, 30, 1, 101, "moved")]);
    scene.look();
}

/// The row stays in its shard.
pub fn own_columns_of_tenant(scene: &mut Scene) {
    scene.run(
        "create table item (tenant integer, id integer, name text, body text, own text default 'none',
                            primary key (tenant, id))",
    );
    scene.spread(&[("item", "tenant")]);
    scene.map("item", "");
    scene.items(&[(
        "insert",
        10,
        r#"{"tenant":1,"id":1,"name":"a","body":"long"}"#,
    )]);
    scene.run("update item set own = 'kept'");
    let toast = r#"{"tenant":1,"id":2,"name":"moved","body":"unchanged_toast"}"#;
    let toast = scene
        .message("update", "item", 40, toast)
        .changes(r#"{"id":1}"#);
    scene.send(&[toast]);
}

pub fn upsert_of_existing(scene: &mut Scene) {
    scene.item();
    scene.run("insert into item values (1, 'there', 'before'), (2, 'there', 'before')");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        ("update", 11, r#"{"id":2,"name":"b"}"#),
        ("insert", 12, r#"{"id":3,"name":"c","body":"x"}"#),
    ]);
    scene.look();
    scene.items(&[("insert", 13, r#"{"id":2,"name":"bb","body":"x"}"#)]);
}

pub fn stale(scene: &mut Scene) {
    insert(scene);
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        ("insert", 11, r#"{"id":2,"name":"b"}"#),
    ]);
    scene.items(&[("update", 50, r#"{"id":1,"name":"A","body":"X"}"#)]);
    scene.look();
    scene.items(&[
        ("update", 40, r#"{"id":1,"name":"old","body":"old"}"#),
        ("update", 41, r#"{"id":2,"name":"new","body":"new"}"#),
        ("delete", 9, r#"{"id":3}"#),
    ]);
    scene.items(&[("update", 40, r#"{"id":1,"name":"old","body":"old"}"#)]);
}

pub fn several(scene: &mut Scene) {
    scene.item();
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        ("update", 11, r#"{"id":1,"name":"b","body":"x"}"#),
        ("update", 12, r#"{"id":1,"name":"c","body":"x"}"#),
        ("insert", 13, r#"{"id":2,"name":"a","body":"x"}"#),
        ("delete", 14, r#"{"id":2,"name":"a","body":"x"}"#),
    ]);
    scene.look();
    scene.items(&[
        ("update", 12, r#"{"id":1,"name":"c","body":"x"}"#),
        ("update", 11, r#"{"id":1,"name":"b","body":"x"}"#),
        ("update", 20, r#"{"id":3,"name":"b","body":"x"}"#),
        ("update", 21, r#"{"id":3,"name":"c","body":"x"}"#),
    ]);
}
