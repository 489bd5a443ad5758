//! Whose fault a failure is: every SQLSTATE that the destination can raise, time limits, cancels at any moment, ended
//! sessions, transactions that may not write. Either a message is a dead letter and the rest is written, or the call
//! fails and nothing is.

#![forbid(unsafe_code)]

mod contexts;
mod ended;
mod refused;
mod sqlstates;
mod told;

use support::message;

/// A row whose name is a SQLSTATE raises it; `sleep` sleeps.
const RAISING: &str = "
    create table item (id integer primary key, name text);
    create function act() returns trigger language plpgsql as $$
    begin
        if new.name ~ '^[0-9A-Z]{5}$' then raise exception 'as asked' using errcode = new.name; end if;
        if new.name = 'sleep' then perform pg_sleep(60); end if;
        return new;
    end $$;
    create trigger act before insert or update on item for each row execute function act()";

fn insert(table: &str, id: usize, name: &str) -> String {
    let record = format!(r#"{{"id":{id},"name":"{name}"}}"#);
    message("insert", table, id as u64 + 1, &record)
}
