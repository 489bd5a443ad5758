//! Rows that constraints bind to other rows.

use crate::scene::Scene;

/// Rows of tenants, whose names are unique in the tenant.
pub fn tenants(scene: &mut Scene) {
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

pub fn unique(scene: &mut Scene) {
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

pub fn unique_exchange(scene: &mut Scene) {
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
pub fn orders(scene: &mut Scene, action: &str) {
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

pub fn foreign_key(scene: &mut Scene) {
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

pub fn foreign_key_delete(scene: &mut Scene) {
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

pub fn cascade(scene: &mut Scene) {
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
