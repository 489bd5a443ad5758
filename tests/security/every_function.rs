//! Every function of the extension, called with what nobody should pass, by roles with and without rights: the server
//! lives, and no error is an internal one.
//!
//! `FUNCTIONS_SECONDS` says for how long, `FUNCTIONS_SEED` where the numbers begin.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{Database, Random, number, rows, run, value};

/// Values of any type, some large, some of types that a function does not expect.
const VALUES: &[&str] = &[
    "null",
    "null::text",
    "null::integer",
    "null::jsonb",
    "null::record",
    "''",
    "'x'",
    "'item'",
    "'shop'",
    "'item'::regclass",
    "0::regclass",
    "4294967295::oid::regclass",
    "1",
    "0",
    "-1",
    "2147483647",
    "(-2147483648)::integer",
    "9223372036854775807",
    "1e400::numeric",
    "'NaN'::float8",
    "true",
    "'{}'::jsonb",
    "'[]'::jsonb",
    "'[1,null,\"x\",{}]'::jsonb",
    "'{\"id\": \"record.id\", \"*\": \"record.*\"}'::jsonb",
    "'{\"id\": {\"sql\": \"current_setting(''a'')\"}}'::jsonb",
    "'{\"id\": {\"value\": {}}, \"\": null, \"x\": [\"*\"]}'::jsonb",
    "'{}'",
    "'[]'",
    "'[1]'",
    "'{\"action\":\"insert\",\"record\":{\"id\":1},\"metadata\":{\"table_schema\":\"public\",\"table_name\":\"item\"}}'",
    "'{\"action\":\"delete\",\"record\":{\"id\":[]},\"metadata\":{\"table_schema\":\"public\",\"table_name\":\"item\"}}'::jsonb",
    "repeat('x', 1000000)",
    "repeat('[', 100000)",
    "('[' || repeat('1,', 1000) || '1]')",
    "('[' || repeat('1,', 1000) || '1]')::jsonb",
    "to_jsonb(repeat('x', 1000000))",
    "repeat('a.', 30)",
    "'public.*'",
    "'*.*'",
    "'upsert'",
    "'append'",
    "'soft'",
    "'table'",
    "'columns'",
    "'raise'",
    "''::bytea",
    "'\\x00ff'::bytea",
    "decode(repeat('ab', 100000), 'hex')",
    "array[]::text[]",
    "array['id']",
    "array['id', null, 'x', '']",
    "array[[1,2],[3,4]]",
    "array_fill(1, array[10000])",
    "row(1, 'x')",
    "row()",
    "now()",
    "'infinity'::timestamptz",
    "'-infinity'::timestamptz",
    "int4range(1, 5)",
    "point(1, 2)",
    "'pg_catalog'::regnamespace",
    "current_user::regrole",
    "txid_current_snapshot()",
    "'x'::name",
    "'\"char\"'::\"char\"",
    "B'101'",
    "'<a/>'::text::json",
];

/// Where a call stands.
const PLACES: &[&str] = &[
    "select {}",
    "select * from {}",
    "select {} from generate_series(1, 3)",
    "select array(select {})",
    "select row({})::text",
    "with x as materialized (select {}) select * from x",
    "select * from {} as t(a integer, b text)",
    "select * from {} with ordinality",
    "select * from rows from ({}, {}) as t",
    "select count(*) from (select {} offset 0) s",
    "select 1 order by {}",
    "select 1 where ({}) is not null",
    "select pg_typeof({})",
    "select coalesce(({})::text, 'x')",
    "select case when random() > 2 then ({})::text end",
    "do $$ begin perform {}; exception when others then perform 1; end $$",
    "do $$ declare r record; begin for r in select * from {} loop perform r; end loop; end $$",
    "create temp table made as select {}",
    "create temp table defaulted (a text default ({})::text); insert into defaulted default values",
    "create temp table checked (a integer check (({}) is null)); insert into checked values (1)",
    "create index on item (({}))",
    "create temp view seen as select {}; select * from seen",
    "prepare made as select {}; execute made; execute made",
    "update item set name = ({})::text",
    "explain verbose select {}",
    "declare c cursor for select {}; fetch all c; fetch all c",
];

/// What the session is, at a call.
const SETTINGS: &[&str] = &[
    "select 1",
    "select 1",
    "select 1",
    "set local search_path = ''",
    "set local transaction read only",
    "set transaction isolation level serializable",
    "set local client_min_messages = debug1",
    "set local jit = on",
    "set local work_mem = '64kB'",
    "set local plan_cache_mode = force_generic_plan",
    "savepoint s",
];

struct Function {
    name: String,
    types: Vec<String>,
    is_trigger: bool,
}

fn functions(client: &mut Client) -> Vec<Function> {
    let sql = "select format('%I.%I', n.nspname, p.proname),
                      (select coalesce(string_agg(format_type(t, null), ';' order by o), '')
                       from unnest(p.proargtypes::oid[]) with ordinality u(t, o)),
                      p.prorettype in ('trigger'::regtype, 'event_trigger'::regtype)
               from pg_proc p join pg_namespace n on n.oid = p.pronamespace
               join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
               join pg_extension e on e.oid = d.refobjid
               where e.extname = 'pg_sequin' order by 1, 2";
    let rows = client.query(sql, &[]).expect("the functions");
    let functions: Vec<_> = rows
        .iter()
        .map(|row| Function {
            name: row.get(0),
            types: row
                .get::<_, String>(1)
                .split(';')
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
                .collect(),
            is_trigger: row.get(2),
        })
        .collect();
    assert!(functions.len() > 20, "{}", functions.len());
    functions
}

/// A call, most often with as many arguments as the function has.
fn call(function: &Function, random: &mut Random) -> String {
    let mut count = function.types.len();
    if random.below(8) == 0 || function.types.iter().any(|t| t == "\"any\"") {
        count = random.below(6) as usize;
    }
    let arguments: Vec<String> = (0..count)
        .map(|i| {
            let value = *random.of(VALUES);
            match function.types.get(i) {
                Some(kind) if kind != "\"any\"" && random.below(4) > 0 => match random.below(4) {
                    0 => format!("null::{kind}"),
                    1 => format!("({value})::{kind}"),
                    _ => format!("({value})::text::{kind}"),
                },
                _ => value.to_owned(),
            }
        })
        .collect();
    let variadic = if random.below(12) == 0 {
        "variadic "
    } else {
        ""
    };
    match arguments.split_last() {
        Some((last, [])) => format!("{}({variadic}{last})", function.name),
        Some((last, most)) => format!("{}({}, {variadic}{last})", function.name, most.join(", ")),
        None => format!("{}()", function.name),
    }
}

#[test]
fn every_function_with_any_arguments() {
    let seconds = number("FUNCTIONS_SECONDS", 4);
    let seed = number("FUNCTIONS_SEED", u64::from(std::process::id()));
    println!("FUNCTIONS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut database = Database::new("functions");
    let (owner, forwarder, nobody) = (
        database.role("owner"),
        database.role("forwarder"),
        database.role("nobody"),
    );
    let mut superuser = database.connect();
    run(
        &mut superuser,
        &format!(
            "create table item (id bigint primary key, name text);
             insert into item values (1, 'x');
             select sequin.map('public.item', 'item', name => 'item');
             select sequin.map('public.shop', null, name => 'shop');
             grant all on item to {owner};
             grant execute on function sequin_apply(text), sequin_apply(jsonb) to {forwarder};
             grant execute on all functions in schema sequin to {owner}"
        ),
    );
    let started = value(&mut superuser, "select pg_postmaster_start_time()");
    let functions = functions(&mut superuser);
    let roles = [None, Some(&owner), Some(&forwarder), Some(&nobody)];
    let connect = |role: Option<&String>| {
        let mut client = match role {
            Some(role) => database.connect_as(role),
            None => database.connect(),
        };
        run(
            &mut client,
            "set statement_timeout = '2s'; set lock_timeout = '500ms'; set client_min_messages = error",
        );
        client
    };
    let mut clients: Vec<Client> = roles.iter().map(|role| connect(*role)).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    let mut internal: BTreeMap<String, String> = BTreeMap::new();
    let mut calls = 0_u64;
    while Instant::now() < end {
        let function = random.of(&functions);
        let who = random.below(roles.len() as u64) as usize;
        let mut sql = random
            .of(PLACES)
            .replace("{}", &call(function, &mut random));
        if function.is_trigger && random.below(2) == 0 {
            let table = *random.of(&["item", "sequin.mapping", "sequin.dead_letter", "made"]);
            let when = *random.of(&[
                "before insert",
                "after update",
                "before delete",
                "after truncate",
            ]);
            let each = if when.ends_with("truncate") {
                "statement"
            } else {
                *random.of(&["row", "statement"])
            };
            sql = format!(
                "create temp table made (id integer, name text); create trigger t {when} on {table} for each {each}
                 execute function {}('x');
                 insert into {table} (name) values ('x'); update {table} set name = name || 'y';
                 delete from {table}; truncate {table}",
                function.name
            );
        }
        let setting = random.of(SETTINGS);
        let client = &mut clients[who];
        calls += 1;
        let result = client
            .batch_execute("begin")
            .and_then(|()| client.batch_execute(setting))
            .and_then(|()| client.batch_execute(&sql));
        let told = || {
            format!(
                "FUNCTIONS_SEED={seed}, call {calls} as {:?}: {setting}; {sql}",
                roles[who]
            )
        };
        if let Err(error) = result {
            let Some(error) = error.as_db_error() else {
                panic!("{error}: {}", told());
            };
            let code = error.code().code();
            *codes.entry(code.to_owned()).or_default() += 1;
            // pgrx says so of a trigger's function that no trigger calls
            if code.starts_with("XX") && !error.message().starts_with("PgTrigger::from_fcinfo") {
                internal
                    .entry(error.message().to_owned())
                    .or_insert_with(told);
            }
            let detail = error.detail().unwrap_or_default();
            assert!(
                !detail.contains("rust") && !detail.contains(".rs:"),
                "{detail}: {}",
                told()
            );
        }
        assert!(!client.is_closed(), "{}", told());
        client
            .batch_execute("rollback")
            .unwrap_or_else(|error| panic!("{error}: {}", told()));
        if calls.is_multiple_of(500) {
            clients[who] = connect(roles[who]);
        }
    }
    println!("{calls} calls of {} functions: {codes:?}", functions.len());
    assert_eq!(
        value(&mut superuser, "select pg_postmaster_start_time()"),
        started
    );
    assert_eq!(rows(&mut superuser, "select name from item"), ["x"]);
    assert!(internal.is_empty(), "{internal:#?}");
}
