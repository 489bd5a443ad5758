//! What the columns of rows get, and what mappings make of it.

use crate::scene::Scene;

pub fn toast(scene: &mut Scene) {
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

pub fn toast_not_null(scene: &mut Scene) {
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

pub fn partial(scene: &mut Scene) {
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

pub fn document(scene: &mut Scene) {
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

pub fn soft_delete(scene: &mut Scene) {
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

pub fn reads(scene: &mut Scene) {
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

pub fn filter(scene: &mut Scene) {
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

pub fn sql_column(scene: &mut Scene) {
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

pub fn append(scene: &mut Scene) {
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

pub fn append_without_key(scene: &mut Scene) {
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

pub fn spellings(scene: &mut Scene) {
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

pub fn key_alone(scene: &mut Scene) {
    scene.table("item", "id integer primary key");
    scene.map("item", "");
    scene.items(&[("insert", 10, r#"{"id":1}"#), ("insert", 11, r#"{"id":2}"#)]);
    scene.items(&[("update", 20, r#"{"id":1}"#), ("delete", 21, r#"{"id":2}"#)]);
    scene.items(&[("insert", 15, r#"{"id":2}"#), ("insert", 30, r#"{"id":3}"#)]);
}

pub fn two_columns(scene: &mut Scene) {
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

pub fn identity(scene: &mut Scene) {
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
