//! Dead letters heal: by themselves when what they wait for comes, when somebody retries them, or because a newer
//! change of their row makes them void.

#![forbid(unsafe_code)]

mod cascades;
mod discard;
mod equality;
mod exclusion;
mod foreign_keys;
mod healing;
mod kept_once;
mod orders;
mod owners;
mod payloads;
mod references;
mod retry;
mod retry_all;
mod superseded;
mod together;
mod unique_values;
mod work;

use postgres::Client;
use support::{message, value};

const LETTERS: &str = "select state, sqlstate, key from sequin.dead_letter order by id";

/// What `sequin.retry` returns, as `received|upserted|stale|dead`.
fn retry(client: &mut Client, which: &str) -> String {
    value(
        client,
        &format!(
            "select concat_ws('|', received, upserted, stale, dead) from sequin.retry({which})"
        ),
    )
}

const FAMILY: &str = "
    create table grandparent (id integer primary key, name text);
    create table parent (id bigint primary key, grandparent_id integer not null references grandparent, name text);
    create table child (id integer primary key, parent_id integer references parent, name text);";

const FAMILIES: &[&str] = &["grandparent", "parent", "child"];

fn item(action: &str, lsn: u64, id: u64, slug: &str) -> String {
    message(
        action,
        "item",
        lsn,
        &format!(r#"{{"id":{id},"slug":"{slug}"}}"#),
    )
}

const ITEM: &str = "create table item (id integer primary key, slug text not null unique)";

const ITEMS: &str = "select id, slug from item order by id";

const PRICED: &str =
    "create table item (id integer primary key, price integer check (price > 0), body text)";

fn priced(action: &str, lsn: u64, price: &str, body: &str) -> String {
    message(
        action,
        "item",
        lsn,
        &format!(r#"{{"id":1,"price":{price},"body":"{body}"}}"#),
    )
}
