//! Batches that nobody should send: deep, large, many, and with what is no text and no number. Each message has an
//! outcome of its own or the call a clear error, in time and memory that the size of the batch bounds.
//!
//! `HOSTILE=full` does it at full size; else it is a fifth or less of that.

#![forbid(unsafe_code)]

mod names;
mod sizes;
mod values;

use support::message;

const WIDE: &str = "create type pair as (a integer, b text);
    create table item (id bigint primary key, t text, v varchar(10), i integer, b bigint, n numeric, m numeric(10,2), f float8,
                       j json, d jsonb, ia integer[], ta text[], ja jsonb[], p pair, ts timestamptz, iv interval, u uuid, bo boolean,
                       by bytea);
    select sequin.map('public.item', 'item', guard => 'off', name => 'item')";

/// A row whose column has a value.
fn one(id: usize, column: &str, json: &str) -> String {
    message(
        "insert",
        "item",
        id as u64 + 1,
        &format!(r#"{{"id":{id},"{column}":{json}}}"#),
    )
}
