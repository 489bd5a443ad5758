//! Mappings that can write nothing.

use support::{run, value};

use super::scene::{Scene, TABLE, statements};

/// A fault, and what the operator reads.
struct Fault<'a> {
    name: &'a str,
    /// What makes `shop.item`, besides [`TABLE`].
    ddl: &'a str,
    /// Arguments of `sequin.map`.
    map: &'a str,
    breaks: &'a str,
    sqlstate: &'a str,
    /// What the error says, besides the name of the mapping.
    says: &'a str,
    mends: Mends<'a>,
    /// The columns of `shop.item` afterwards.
    columns: &'a str,
}

/// How the fault is mended.
enum Mends<'a> {
    /// By the statement of the HINT with this number.
    Hint(usize),
    /// By the statement of the HINT, where the user has to put a name in.
    HintWith(&'a str, &'a str),
    /// The HINT tells in words.
    Words(&'a str, &'a str),
}

const NAMED: &str = r#"columns => '{"id": "record.id", "name": "record.name", "n": "record.n"}'"#;
const SHOUT: &str = r#"columns => '{"*": "record.*", "name": {"sql": "keep(record->>''name'')"}}'"#;
const KEEP: &str = "create schema util;
    create function util.keep(text) returns text language sql immutable as 'select $1'";

fn faults<'a>() -> Vec<Fault<'a>> {
    let fault = |name, breaks, sqlstate, says| Fault {
        name,
        ddl: "",
        map: "on_error => 'dead_letter'",
        breaks,
        sqlstate,
        says,
        mends: Mends::Hint(0),
        columns: "id, name, n",
    };
    let mut faults = vec![
        Fault {
            map: NAMED,
            columns: "id, name, amount",
            ..fault(
                "column_renamed",
                "alter table shop.item rename n to amount",
                "42703",
                "column \"n\" of shop.item does not exist",
            )
        },
        Fault {
            map: NAMED,
            columns: "id, name",
            ..fault(
                "column_dropped",
                "alter table shop.item drop n",
                "42703",
                "column \"n\" of shop.item does not exist",
            )
        },
        Fault {
            map: NAMED,
            columns: "ident, name, n",
            ..fault(
                "key_renamed",
                "alter table shop.item rename id to ident",
                "42703",
                "column \"id\" of shop.item does not exist",
            )
        },
        Fault {
            columns: "ident, name, n",
            ..fault(
                "unnamed_key_renamed",
                "alter table shop.item rename id to ident",
                "23502",
                "key column \"ident\" has no value",
            )
        },
        Fault {
            ddl: "create type shop.mood as enum ('v'); alter table shop.item add mood shop.mood",
            map: r#"columns => '{"*": "record.*", "mood": {"value": "v"}}'"#,
            ..fault(
                "type_dropped",
                "drop type shop.mood cascade",
                "42703",
                "column \"mood\" of shop.item does not exist",
            )
        },
        Fault {
            map: NAMED,
            columns: "id, name",
            ..fault(
                "column_generated",
                "alter table shop.item drop n; alter table shop.item add n bigint generated always as (1) stored",
                "428C9",
                "column \"n\" of shop.item is generated",
            )
        },
        fault(
            "primary_key_dropped",
            "alter table shop.item drop constraint item_pkey",
            "42P10",
            "has no primary key",
        ),
        Fault {
            ddl: "alter table shop.item drop constraint item_pkey, alter id set not null, add constraint u unique (id)",
            map: "key => '{id}'",
            ..fault(
                "unique_index_dropped",
                "alter table shop.item drop constraint u",
                "42P10",
                "no unique index of shop.item is on the key (id)",
            )
        },
        fault(
            "rule",
            "create rule no as on delete to shop.item do instead nothing",
            "0A000",
            "destination shop.item has rules",
        ),
        fault(
            "row_security",
            "alter table shop.item enable row level security",
            "42501",
            "row security of shop.item refuses every row",
        ),
        Fault {
            ddl: KEEP,
            map: SHOUT,
            mends: Mends::HintWith("schema_name", "util"),
            ..fault(
                "search_path_elsewhere",
                "alter table sequin.mapping disable trigger mapping_check;
                 update sequin.mapping set search_path = 'nowhere' where name = 'bad';
                 alter table sequin.mapping enable always trigger mapping_check",
                "42883",
                "SQL of column \"name\" is not valid: function keep(text) does not exist",
            )
        },
        Fault {
            ddl: KEEP,
            map: SHOUT,
            mends: Mends::HintWith("schema_name", "util"),
            ..fault(
                "search_path_malformed",
                "alter table sequin.mapping disable trigger mapping_check;
                 update sequin.mapping set search_path = '\"' where name = 'bad';
                 alter table sequin.mapping enable always trigger mapping_check",
                "42883",
                "SQL of column \"name\" is not valid: function keep(text) does not exist",
            )
        },
        Fault {
            ddl: KEEP,
            map: SHOUT,
            mends: Mends::Words(
                "create it again",
                "create function util.keep(text) returns text language sql immutable as 'select $1'",
            ),
            ..fault(
                "function_dropped",
                "drop function util.keep",
                "42883",
                "SQL of column \"name\" is not valid: function keep(text) does not exist",
            )
        },
        Fault {
            ddl: KEEP,
            map: SHOUT,
            ..fault(
                "function_revoked",
                "revoke execute on function util.keep from public",
                "42501",
                "permission denied for function keep",
            )
        },
        Fault {
            map: r#"columns => '{"*": "record.*", "n": {"sql": "(record->>''n'')::bigint"}}'"#,
            mends: Mends::Words("cast", "alter table shop.item alter n type bigint using 0"),
            columns: "id, name",
            ..fault(
                "type_changed_under_sql",
                "alter table shop.item alter n type point using null",
                "42804",
                "column \"n\" is of type point",
            )
        },
        Fault {
            ddl: "alter table shop.item add extra bigserial",
            ..fault(
                "sequence_revoked",
                "revoke usage on sequence shop.item_extra_seq from current_user",
                "42501",
                "permission denied for sequence item_extra_seq",
            )
        },
        Fault {
            ddl: "alter table shop.item add extra bigserial, add more bigserial",
            ..fault(
                "sequences_revoked",
                "revoke usage on sequence shop.item_extra_seq, shop.item_more_seq from current_user",
                "42501",
                "permission denied for sequence item_extra_seq",
            )
        },
        Fault {
            ddl: "alter table shop.item add extra bigserial",
            ..fault(
                "owned_dropped",
                "revoke usage on sequence shop.item_extra_seq from current_user;
                 revoke usage on schema shop from current_user; drop owned by {owner}",
                "42501",
                "may not write to shop.item",
            )
        },
        Fault {
            ddl: "create function shop.no() returns trigger language plpgsql as
                  $$ begin if exists (select from shop.stop) then raise exception 'stopped'; end if; return null; end $$;
                  create table shop.stop (); create trigger no before insert or update or delete on shop.item
                  execute function shop.no()",
            mends: Mends::Words("raises this error", "truncate shop.stop"),
            ..fault(
                "statement_trigger_raises",
                "insert into shop.stop default values",
                "P0001",
                "stopped",
            )
        },
        Fault {
            ddl: "create function shop.helper() returns void language sql as 'select';
                  create function shop.calls() returns trigger language plpgsql as
                  $$ begin perform shop.helper(); return case tg_op when 'DELETE' then old else new end; end $$;
                  create trigger calls before insert or update or delete on shop.item for each row
                  execute function shop.calls()",
            mends: Mends::Words(
                "A trigger, a default or a function that the rows use",
                "create function shop.helper() returns void language sql as 'select'",
            ),
            ..fault(
                "function_of_a_trigger_dropped",
                "drop function shop.helper",
                "42883",
                "function shop.helper() does not exist",
            )
        },
    ];
    faults.push(Fault {
        ddl: "create table shop.noted (id bigint); grant insert on shop.noted to public;
              create function shop.notes() returns trigger language plpgsql as
              $$ begin if tg_op <> 'DELETE' then insert into shop.noted values (new.id); end if;
              return case tg_op when 'DELETE' then old else new end; end $$;
              create trigger notes before insert or update or delete on shop.item for each row
              execute function shop.notes()",
        ..fault(
            "table_of_a_trigger_revoked",
            "revoke insert on shop.noted from public; revoke insert on shop.noted from {owner}",
            "42501",
            "permission denied for table noted",
        )
    });
    for (name, what) in [
        ("usage_revoked", "usage on schema shop"),
        ("insert_revoked", "insert on shop.item"),
        ("update_revoked", "update on shop.item"),
        ("delete_revoked", "delete on shop.item"),
        ("select_revoked", "select on shop.item"),
    ] {
        faults.push(fault(name, what, "42501", "may not write to shop.item"));
    }
    faults
}

/// All under guard `table`, and a third under each of the others.
fn all(guard: &str) {
    let only = std::env::var("FAULT").unwrap_or_default();
    for (number, fault) in faults().into_iter().enumerate() {
        let turn = match guard {
            "table" => true,
            "columns" => number % 3 == 0,
            _ => number % 3 == 1,
        };
        let known = guard != "off" || fault.name != "unnamed_key_renamed";
        if fault.name.contains(&only) && known && (turn || !only.is_empty()) {
            println!("{} under guard {guard}", fault.name);
            one(&fault, guard);
        }
    }
}

#[test]
fn broken_mappings_say_so_and_stop_only_themselves() {
    all("table");
}

#[test]
fn broken_mappings_with_guard_columns() {
    all("columns");
}

#[test]
fn broken_mappings_without_guard() {
    all("off");
}

fn one(fault: &Fault<'_>, guard: &str) {
    // The mapping's SQL finds names as the session did that made it.
    let path = match fault.ddl.contains("util") {
        true => "set search_path = util, public",
        false => "select",
    };
    let grants = "grant usage on all sequences in schema shop to public; grant usage on schema shop to public;
                  do $$ begin if exists (select from pg_namespace where nspname = 'util') then
                      grant usage on schema util to public; end if; end $$";
    let mut scene = Scene::guarded(
        fault.name,
        guard,
        &format!("{TABLE}; {}; {grants}; {path}", fault.ddl),
        &format!(", {}", fault.map),
    );
    run(&mut scene.admin, "set search_path = public");
    scene.send_well();
    scene.send_well();
    let breaks = match fault.name.split_once('_') {
        Some((_, "revoked")) if !fault.breaks.starts_with("revoke") => format!(
            "revoke usage on schema shop from public; revoke {} from {}",
            fault.breaks, scene.owner
        ),
        _ => fault
            .breaks
            .replace("from current_user", "from public")
            .replace("{owner}", &scene.owner),
    };
    run(&mut scene.admin, &breaks);

    // It can be read before a message comes.
    let seen_in_writing = [
        "statement_trigger_raises",
        "function_of_a_trigger_dropped",
        "table_of_a_trigger_revoked",
        "sequence_revoked",
        "sequences_revoked",
        "unnamed_key_renamed",
    ];
    if !seen_in_writing.contains(&fault.name) {
        let told = scene.check();
        assert_eq!(
            (&*told.state, &*told.sqlstate),
            ("broken", fault.sqlstate),
            "{told:?}"
        );
    }
    for _ in 0..3 {
        let counts = scene.send();
        assert_eq!(counts.dead, Scene::EACH, "{counts:?}");
        scene.the_others_are_written();
    }
    let told = scene.status();
    assert_eq!(
        (&*told.state, &*told.sqlstate),
        ("broken", fault.sqlstate),
        "{told:?}"
    );
    assert!(
        told.error.starts_with("mapping \"bad\" is broken: "),
        "{told:?}"
    );
    assert!(told.error.contains(fault.says), "{told:?}");
    scene.letters_wait(&told, 3 * Scene::EACH);
    let other = value(
        &mut scene.admin,
        "select state from sequin.status where name = 'good'",
    );
    assert_eq!(other, "running");

    println!("    {}", told.hint);
    let statements = statements(&told.hint);
    let mends = match fault.mends {
        Mends::Hint(number) => statements[number].clone(),
        Mends::HintWith(name, with) => statements[0].replace(name, with),
        Mends::Words(words, sql) => {
            assert!(told.hint.contains(words), "{told:?}");
            sql.to_owned()
        }
    };
    run(&mut scene.admin, &mends);
    let told = scene.check();
    assert_eq!((&*told.state, &*told.error), ("running", ""), "{told:?}");
    // Either way.
    match guard {
        "off" => run(&mut scene.admin, "select * from sequin.retry('bad')"),
        _ => scene.send_well(),
    }
    scene.is_complete(fault.columns);
    let told = scene.status();
    assert_eq!((&*told.state, &*told.error), ("running", ""), "{told:?}");
    scene.send_well();
    scene.is_complete(fault.columns);
}
