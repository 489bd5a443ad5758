//! What a mapping can do, each with tables of its own.

use support::Message;

use super::scene::Scene;

/// What a feature does in a scene.
pub type Feature = fn(&mut Scene);

/// Names and what they do.
pub const FEATURES: &[(&str, Feature)] = &[
    ("insert", insert),
    ("many inserts", many_inserts),
    ("update", update),
    ("update before insert", update_first),
    ("delete", delete),
    ("key change", key_change),
    ("key exchange in a batch", key_exchange),
    ("key change with own columns", own_columns),
    ("key change in a shard", own_columns_of_tenant),
    ("upsert of existing rows", upsert_of_existing),
    ("stale messages", stale),
    ("several changes of a row", several),
    ("unchanged TOAST", toast),
    ("unchanged TOAST that must be there", toast_not_null),
    ("partial update", partial),
    ("document", document),
    ("soft delete", soft_delete),
    ("reads", reads),
    ("filter", filter),
    ("SQL column", sql_column),
    ("append", append),
    ("append without key", append_without_key),
    ("key of text with spellings", spellings),
    ("key alone", key_alone),
    ("two columns in the key", two_columns),
    ("identity and generated column", identity),
    ("resync", resync),
    ("resync in portions", resync_in_portions),
    ("resync with soft delete", resync_soft),
    ("unique value that another row has", unique),
    ("unique values exchanged", unique_exchange),
    ("foreign key before its row", foreign_key),
    ("delete of a row that is referred to", foreign_key_delete),
    ("cascade", cascade),
    ("dead letters", dead_letters),
    ("dead letter superseded", superseded),
    ("retry by hand", retry),
    ("several tables in a batch", several_tables),
    ("explain", explain),
    ("explain a batch", explain_batch),
    ("fingerprint", fingerprint),
    ("forget versions", forget),
    ("another guard", other_guard),
    ("another key", other_key),
    ("partitioned table", partitioned),
    ("two mappings of a table", two_mappings),
];

fn insert(scene: &mut Scene) {
    scene.item();
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#),
        ("insert", 11, r#"{"id":2,"name":"b"}"#),
        ("insert", 12, r#"{"id":3,"name":null,"body":"z"}"#),
    ]);
    scene.items(&[("insert", 20, r#"{"id":4,"name":"d","body":"x"}"#)]);
}

fn many_inserts(scene: &mut Scene) {
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

fn update(scene: &mut Scene) {
    insert(scene);
    scene.items(&[
        ("update", 30, r#"{"id":1,"name":"A","body":"X"}"#),
        ("update", 31, r#"{"id":3,"name":"C","body":null}"#),
    ]);
    scene.items(&[("update", 40, r#"{"id":2,"name":"B","body":"Y"}"#)]);
}

fn update_first(scene: &mut Scene) {
    scene.item();
    scene.items(&[("update", 30, r#"{"id":1,"name":"A","body":"X"}"#)]);
    scene.items(&[("insert", 10, r#"{"id":1,"name":"a","body":"x"}"#)]);
}

fn delete(scene: &mut Scene) {
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

fn moved(scene: &Scene, lsn: u64, from: i64, to: i64, name: &str) -> Message {
    let record = format!(r#"{{"id":{to},"name":"{name}","body":"x"}}"#);
    scene
        .message("update", "item", lsn, &record)
        .changes(format!(r#"{{"id":{from}}}"#))
}

fn key_change(scene: &mut Scene) {
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

fn key_exchange(scene: &mut Scene) {
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

fn own_columns(scene: &mut Scene) {
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
fn own_columns_of_tenant(scene: &mut Scene) {
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

fn upsert_of_existing(scene: &mut Scene) {
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

fn stale(scene: &mut Scene) {
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

fn several(scene: &mut Scene) {
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

fn toast(scene: &mut Scene) {
    scene.item();
    let un = |n: &str| format!(r#"{{"id":1,"name":"{n}","body":"unchanged_toast"}}"#);
    let full = |n: &str, b: &str| format!(r#"{{"id":1,"name":"{n}","body":"{b}"}}"#);
    let (b, c, e) = (un("b"), un("c"), un("e"));
    scene.items(&[("update", 20, &b)]);
    scene.look();
    scene.items(&[("read", 5, &full("z", "read"))]);
    scene.look();
    scene.items(&[("insert", 10, &full("a", "ten"))]);
    scene.items(&[("update", 15, &full("a", "fifteen"))]);
    scene.items(&[("update", 12, &full("a", "twelve"))]);
    scene.look();
    scene.items(&[("update", 30, &c)]);
    scene.items(&[("update", 25, &full("z", "twenty-five"))]);
    scene.look();
    scene.items(&[("update", 40, &full("d", "forty"))]);
    scene.items(&[("update", 60, &e)]);
    scene.items(&[("delete", 50, r#"{"id":1,"name":"d"}"#)]);
    scene.look();
    scene.items(&[("insert", 55, &full("z", "fifty-five"))]);
    scene.items(&[
        ("insert", 70, r#"{"id":2,"name":"a","body":"long"}"#),
        (
            "update",
            71,
            r#"{"id":2,"name":"b","body":"unchanged_toast"}"#,
        ),
        (
            "update",
            72,
            r#"{"id":1,"name":"f","body":"unchanged_toast"}"#,
        ),
    ]);
}

fn toast_not_null(scene: &mut Scene) {
    scene.table(
        "item",
        "id integer primary key, name text, body text not null",
    );
    scene.map("item", "");
    scene.items(&[
        (
            "update",
            20,
            r#"{"id":1,"name":"b","body":"unchanged_toast"}"#,
        ),
        ("insert", 21, r#"{"id":2,"name":"b","body":"x"}"#),
    ]);
    scene.look();
    scene.items(&[("insert", 10, r#"{"id":1,"name":"a","body":"ten"}"#)]);
    scene.look();
    scene.items(&[(
        "update",
        30,
        r#"{"id":1,"name":"c","body":"unchanged_toast"}"#,
    )]);
}

fn partial(scene: &mut Scene) {
    scene.table(
        "item",
        "id integer primary key, name text default 'n', body text default 'b', own integer default 3",
    );
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a"}"#),
        ("insert", 11, r#"{"id":2,"body":"b2"}"#),
        ("insert", 12, r#"{"id":3}"#),
    ]);
    scene.look();
    scene.items(&[
        ("update", 20, r#"{"id":1,"body":"x"}"#),
        ("update", 21, r#"{"id":2,"name":"y"}"#),
        ("update", 22, r#"{"id":3,"name":"z","own":5}"#),
    ]);
    scene.look();
    scene.items(&[
        ("update", 30, r#"{"id":1,"name":"1"}"#),
        ("update", 31, r#"{"id":1,"body":"2"}"#),
    ]);
}

fn document(scene: &mut Scene) {
    scene.table("item", "id integer primary key, data jsonb");
    scene.map(
        "item",
        r#", columns => '{"id": "record.id", "data": "record"}'"#,
    );
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"long"}"#),
        ("insert", 11, r#"{"id":2,"name":"a","body":"long"}"#),
    ]);
    scene.items(&[(
        "update",
        20,
        r#"{"id":1,"name":"b","body":"unchanged_toast"}"#,
    )]);
    scene.look();
    scene.items(&[
        (
            "update",
            30,
            r#"{"id":2,"name":"b","body":"unchanged_toast"}"#,
        ),
        (
            "update",
            31,
            r#"{"id":3,"name":"b","body":"unchanged_toast"}"#,
        ),
    ]);
    scene.look();
    scene.items(&[("insert", 25, r#"{"id":3,"name":"a","body":"late"}"#)]);
    scene.items(&[("read", 100, r#"{"id":3,"name":"read","body":"read"}"#)]);
}

fn soft_delete(scene: &mut Scene) {
    scene.table(
        "item",
        "id integer primary key, name text, gone timestamptz",
    );
    scene.map("item", ", on_delete => 'soft', soft_delete => 'gone'");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a"}"#),
        ("insert", 11, r#"{"id":2,"name":"b"}"#),
        ("insert", 12, r#"{"id":3,"name":"c"}"#),
    ]);
    scene.items(&[
        ("delete", 20, r#"{"id":1,"name":"a"}"#),
        ("delete", 21, r#"{"id":2,"name":"b"}"#),
        ("delete", 22, r#"{"id":9,"name":"b"}"#),
    ]);
    scene.look();
    scene.items(&[
        ("insert", 30, r#"{"id":1,"name":"back"}"#),
        ("update", 15, r#"{"id":2,"name":"late"}"#),
    ]);
    scene.look();
    scene.items(&[
        ("update", 40, r#"{"id":3,"name":"x"}"#),
        ("delete", 41, r#"{"id":3,"name":"x"}"#),
    ]);
}

fn reads(scene: &mut Scene) {
    scene.item();
    scene.run("insert into item values (7, 'there', 'before')");
    let read = |id: i64, n: &str| format!(r#"{{"id":{id},"name":"{n}","body":"read"}}"#);
    scene.items(&[
        ("read", 10, &read(1, "a")),
        ("read", 10, &read(2, "b")),
        ("read", 10, &read(7, "seven")),
    ]);
    scene.look();
    scene.items(&[
        ("read", 9, &read(1, "earlier")),
        ("read", 11, &read(2, "later")),
        ("update", 13, r#"{"id":7,"name":"change","body":"x"}"#),
    ]);
    scene.look();
    scene.items(&[
        ("read", 14, &read(7, "in the skew")),
        ("read", 30, &read(2, "long after")),
        ("read", 30, &read(3, "new")),
    ]);
    scene.items(&[("read", 40, &read(7, "long after"))]);
    scene.look();
    scene.items(&[
        ("update", 20, r#"{"id":7,"name":"old change","body":"x"}"#),
        ("update", 50, r#"{"id":7,"name":"new change","body":"x"}"#),
        ("delete", 60, r#"{"id":3}"#),
    ]);
    scene.items(&[
        ("read", 61, &read(3, "too late")),
        ("read", 90, &read(3, "back")),
    ]);
}

fn filter(scene: &mut Scene) {
    scene.table("item", "id integer primary key, name text, body text");
    scene.map("item", ", filter => 'record->>''name'' <> ''out'''");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"in","body":"x"}"#),
        ("insert", 11, r#"{"id":2,"name":"out","body":"x"}"#),
        ("insert", 12, r#"{"id":3,"name":"in","body":"x"}"#),
    ]);
    scene.look();
    scene.items(&[
        ("update", 20, r#"{"id":1,"name":"out","body":"x"}"#),
        ("update", 21, r#"{"id":2,"name":"in","body":"x"}"#),
        ("update", 22, r#"{"id":4,"name":"out","body":"x"}"#),
        ("delete", 23, r#"{"id":3,"name":"in","body":"x"}"#),
    ]);
}

fn sql_column(scene: &mut Scene) {
    scene.table(
        "item",
        "id integer primary key, name text, body text, n integer",
    );
    scene.map(
        "item",
        r#", columns => '{"name": {"sql": "upper(record->>''name'')"}, "n": {"sql": "length(record->>''body'')"}, "*": "record.*"}'"#,
    );
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","body":"xyz"}"#),
        ("insert", 11, r#"{"id":2,"name":"b","body":"x"}"#),
    ]);
    scene.items(&[(
        "update",
        20,
        r#"{"id":1,"name":"c","body":"unchanged_toast"}"#,
    )]);
    scene.look();
    scene.items(&[
        (
            "update",
            30,
            r#"{"id":2,"name":"c","body":"unchanged_toast"}"#,
        ),
        (
            "update",
            31,
            r#"{"id":3,"name":"c","body":"unchanged_toast"}"#,
        ),
    ]);
}

fn append(scene: &mut Scene) {
    scene.table(
        "item",
        "id bigint, lsn bigint, idx integer, action text, name text, primary key (id, lsn, idx)",
    );
    scene.map(
        "item",
        r#", mode => 'append', columns => '{"lsn": "metadata.commit_lsn", "idx": "metadata.commit_idx", "action": "action", "*": "record.*"}'"#,
    );
    let all: [(&str, u64, &str); 3] = [
        ("insert", 10, r#"{"id":1,"name":"a"}"#),
        ("update", 11, r#"{"id":1,"name":"b"}"#),
        ("delete", 12, r#"{"id":1,"name":"b"}"#),
    ];
    scene.items(&all);
    scene.look();
    scene.items(&all);
    scene.items(&all[1..2]);
    scene.items(&[all[0], ("insert", 13, r#"{"id":2,"name":"c"}"#)]);
}

fn append_without_key(scene: &mut Scene) {
    scene.table("item", "id bigint, action text, name text");
    scene.map(
        "item",
        r#", mode => 'append', columns => '{"action": "action", "*": "record.*"}'"#,
    );
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a"}"#),
        ("update", 11, r#"{"id":1,"name":"b"}"#),
    ]);
    scene.items(&[("delete", 12, r#"{"id":1,"name":"b"}"#)]);
}

fn spellings(scene: &mut Scene) {
    // Citus does not update the column over which the table is distributed.
    scene.run("create table item (tenant integer, id numeric, name text, body text, primary key (tenant, id))");
    scene.spread(&[("item", "tenant")]);
    scene.map("item", "");
    scene.items(&[(
        "insert",
        10,
        r#"{"tenant":1,"id":1.0,"name":"a","body":"x"}"#,
    )]);
    scene.items(&[(
        "update",
        20,
        r#"{"tenant":1,"id":1.00,"name":"b","body":"x"}"#,
    )]);
    scene.items(&[(
        "update",
        30,
        r#"{"tenant":1,"id":1,"name":"c","body":"unchanged_toast"}"#,
    )]);
    scene.show("select id, name from item");
}

fn key_alone(scene: &mut Scene) {
    scene.table("item", "id integer primary key");
    scene.map("item", "");
    scene.items(&[("insert", 10, r#"{"id":1}"#), ("insert", 11, r#"{"id":2}"#)]);
    scene.items(&[("update", 20, r#"{"id":1}"#), ("delete", 21, r#"{"id":2}"#)]);
    scene.items(&[("insert", 15, r#"{"id":2}"#), ("insert", 30, r#"{"id":3}"#)]);
}

fn two_columns(scene: &mut Scene) {
    scene
        .run("create table item (tenant integer, id integer, name text, primary key (tenant, id))");
    scene.spread(&[("item", "tenant")]);
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"tenant":1,"id":1,"name":"a"}"#),
        ("insert", 11, r#"{"tenant":1,"id":2,"name":"b"}"#),
        ("insert", 12, r#"{"tenant":2,"id":1,"name":"c"}"#),
    ]);
    scene.items(&[
        ("update", 20, r#"{"tenant":1,"id":1,"name":"A"}"#),
        ("delete", 21, r#"{"tenant":2,"id":1,"name":"c"}"#),
    ]);
    let moves = [
        scene
            .message(
                "update",
                "item",
                30,
                r#"{"tenant":1,"id":3,"name":"moved"}"#,
            )
            .changes(r#"{"id":2}"#),
        scene
            .message(
                "update",
                "item",
                31,
                r#"{"tenant":3,"id":1,"name":"moved"}"#,
            )
            .changes(r#"{"tenant":1}"#),
    ];
    scene.send(&moves);
}

fn identity(scene: &mut Scene) {
    scene.table(
        "item",
        "id bigint primary key, name text, twice text generated always as (name || name) stored, n bigint generated by default as identity",
    );
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"id":1,"name":"a","n":5}"#),
        ("insert", 11, r#"{"id":2,"name":"b","n":6}"#),
    ]);
    scene.items(&[("update", 20, r#"{"id":1,"name":"c","n":7}"#)]);
}

fn resynced(scene: &mut Scene, more: &str, finish: &str) {
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

fn resync(scene: &mut Scene) {
    resynced(scene, "", "select sequin.finish_resync('@_item')");
}

fn resync_in_portions(scene: &mut Scene) {
    resynced(
        scene,
        "",
        "call sequin.finish_resync_in_portions('@_item', portion => 2)",
    );
}

fn resync_soft(scene: &mut Scene) {
    resynced(
        scene,
        ", on_delete => 'soft', soft_delete => 'gone'",
        "select sequin.finish_resync('@_item')",
    );
}

/// Rows of tenants, whose names are unique in the tenant.
fn tenants(scene: &mut Scene) {
    scene.run(
        "create table item (tenant integer, id integer, name text, primary key (tenant, id), unique (tenant, name))",
    );
    scene.spread(&[("item", "tenant")]);
    scene.map("item", "");
    scene.items(&[
        ("insert", 10, r#"{"tenant":1,"id":1,"name":"a"}"#),
        ("insert", 11, r#"{"tenant":1,"id":2,"name":"b"}"#),
        ("insert", 12, r#"{"tenant":2,"id":1,"name":"a"}"#),
    ]);
}

fn unique(scene: &mut Scene) {
    tenants(scene);
    scene.items(&[
        ("insert", 20, r#"{"tenant":1,"id":3,"name":"a"}"#),
        ("insert", 21, r#"{"tenant":1,"id":4,"name":"d"}"#),
    ]);
    scene.look();
    scene.items(&[("update", 15, r#"{"tenant":1,"id":1,"name":"free"}"#)]);
    scene.look();
    scene.items(&[("update", 30, r#"{"tenant":1,"id":4,"name":"b"}"#)]);
    scene.look();
    scene.items(&[("delete", 29, r#"{"tenant":1,"id":2,"name":"b"}"#)]);
}

fn unique_exchange(scene: &mut Scene) {
    tenants(scene);
    scene.items(&[
        ("update", 20, r#"{"tenant":1,"id":1,"name":"tmp"}"#),
        ("update", 21, r#"{"tenant":1,"id":2,"name":"a"}"#),
        ("update", 22, r#"{"tenant":1,"id":1,"name":"b"}"#),
    ]);
    scene.look();
    scene.items(&[("update", 31, r#"{"tenant":1,"id":2,"name":"b"}"#)]);
    scene.look();
    scene.items(&[("update", 32, r#"{"tenant":1,"id":1,"name":"a"}"#)]);
}

/// Orders with their customers.
fn orders(scene: &mut Scene, action: &str) {
    scene.run(
        "create table customer (id integer primary key, name text);
         create table orders (id integer, customer integer, name text, primary key (customer, id))",
    );
    scene.spread(&[("customer", "id"), ("orders", "customer")]);
    scene.run(&format!(
        "alter table orders add constraint orders_customer foreign key (customer) references customer (id) {action}"
    ));
    scene.map("customer", "");
    scene.map("orders", "");
}

fn foreign_key(scene: &mut Scene) {
    orders(scene, "");
    let order = |scene: &Scene, lsn, id, customer| {
        let record = format!(r#"{{"id":{id},"customer":{customer},"name":"o"}}"#);
        scene.message("insert", "orders", lsn, &record)
    };
    let customer = |scene: &Scene, action, lsn, id| {
        scene.message(
            action,
            "customer",
            lsn,
            &format!(r#"{{"id":{id},"name":"c"}}"#),
        )
    };
    let all = [
        order(scene, 20, 1, 1),
        order(scene, 21, 2, 2),
        customer(scene, "insert", 11, 2),
    ];
    scene.send(&all);
    scene.look();
    scene.show(
        "select mapping, key, sqlstate, error, hint, waits_on, waits_for from sequin.waiting where mapping like '@\\_%'",
    );
    scene.send(&[customer(scene, "insert", 10, 1)]);
    scene.look();
    let more: Vec<_> = (3..=20)
        .flat_map(|i| [order(scene, 30 + i, i, i)])
        .collect();
    scene.send(&more);
    scene.look();
    let more: Vec<_> = (3..=20)
        .map(|i| customer(scene, "insert", 20 + i, i))
        .collect();
    scene.send(&more);
}

fn foreign_key_delete(scene: &mut Scene) {
    orders(scene, "");
    let all = [
        scene.message("insert", "customer", 10, r#"{"id":1,"name":"c"}"#),
        scene.message("insert", "customer", 11, r#"{"id":2,"name":"d"}"#),
        scene.message(
            "insert",
            "orders",
            12,
            r#"{"id":1,"customer":1,"name":"o"}"#,
        ),
        scene.message(
            "insert",
            "orders",
            13,
            r#"{"id":2,"customer":2,"name":"o"}"#,
        ),
    ];
    scene.send(&all);
    scene.send(&[scene.message("delete", "customer", 30, r#"{"id":1,"name":"c"}"#)]);
    scene.look();
    scene.show(
        "select mapping, key, sqlstate, error, hint, waits_on, waits_for from sequin.waiting where mapping like '@\\_%'",
    );
    scene.send(&[scene.message(
        "delete",
        "orders",
        29,
        r#"{"id":1,"customer":1,"name":"o"}"#,
    )]);
    scene.look();
    scene.send(&[
        scene.message(
            "delete",
            "orders",
            39,
            r#"{"id":2,"customer":2,"name":"o"}"#,
        ),
        scene.message("delete", "customer", 40, r#"{"id":2,"name":"d"}"#),
    ]);
}

fn cascade(scene: &mut Scene) {
    orders(scene, "on delete cascade");
    let all = [
        scene.message("insert", "customer", 10, r#"{"id":1,"name":"c"}"#),
        scene.message(
            "insert",
            "orders",
            12,
            r#"{"id":1,"customer":1,"name":"o"}"#,
        ),
    ];
    scene.send(&all);
    scene.send(&[scene.message("delete", "customer", 30, r#"{"id":1,"name":"c"}"#)]);
    scene.look();
    scene.send(&[scene.message(
        "delete",
        "orders",
        29,
        r#"{"id":1,"customer":1,"name":"o"}"#,
    )]);
}

fn dead_letters(scene: &mut Scene) {
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

fn superseded(scene: &mut Scene) {
    dead_letters(scene);
    scene.items(&[
        ("update", 30, r#"{"id":3,"name":"c","n":3}"#),
        ("update", 31, r#"{"id":5,"name":"e","n":5}"#),
        ("delete", 32, r#"{"id":4}"#),
    ]);
}

fn retry(scene: &mut Scene) {
    dead_letters(scene);
    scene.run("alter table item drop constraint item_n_check");
    scene.show("select * from sequin.retry('@_item')");
    scene.look();
    scene.run("alter table item alter column name drop not null");
    scene.show("call sequin.retry_all('@_item')");
}

fn several_tables(scene: &mut Scene) {
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

fn explain(scene: &mut Scene) {
    scene.item();
    scene.show("select count(*) > 3 from sequin.explain('@_item')");
    scene.show("select state, error from sequin.check() where mapping = '@_item'");
}

fn explain_batch(scene: &mut Scene) {
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

fn fingerprint(scene: &mut Scene) {
    insert(scene);
    scene.show("select * from sequin.fingerprint('@.item', array['id', 'name', 'body'])");
}

fn forget(scene: &mut Scene) {
    insert(scene);
    scene.show("select sequin.forget_versions('@_item')");
    scene.items(&[("update", 1, r#"{"id":1,"name":"restored","body":"x"}"#)]);
}

fn other_guard(scene: &mut Scene) {
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

fn other_key(scene: &mut Scene) {
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

fn partitioned(scene: &mut Scene) {
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

fn two_mappings(scene: &mut Scene) {
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
