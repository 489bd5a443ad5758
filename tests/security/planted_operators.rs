//! Functions and operators that were there before the extension are not called by it.

use support::{Database, apply, item, message, rows, run};

/// For each type, operators and functions that fit better than those of pg_catalog wherever a name is not qualified.
const PLANT: &str = r#"
    create schema spy;
    create table spy.called (what text, who text);
    grant usage on schema spy to public;
    grant all on spy.called to public;
    do $$
    declare
        type text; symbol text;
    begin
        foreach type in array array['text', 'name', 'varchar', 'oid', 'regclass', 'regrole', 'jsonb', '"char"', 'int2', 'int4',
                                    'int8', 'timestamptz', 'text[]', 'bytea', 'bool', 'float4'] loop
            foreach symbol in array array['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '||', '@?', '@>', '->', '->>', '~', '~~'] loop
                execute format('create function public.%I(a %s, b %s) returns %s language plpgsql volatile as
                    %L', 'f' || md5(symbol || type), type, type,
                    case when symbol in ('+', '-', '*', '||', '->', '->>') then type else 'boolean' end,
                    format('begin insert into spy.called values (%L, current_user); return null; end', symbol || ' ' || type));
                execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.%I)',
                    symbol, type, type, 'f' || md5(symbol || type));
            end loop;
        end loop;
        foreach symbol in array array['count(int4)', 'max(timestamptz)', 'pg_has_role(regrole, text)', 'now(int4)',
                                      'has_guard_columns(regclass)', 'format(text, name)'] loop
            execute format('create function public.%s returns bigint language plpgsql volatile as %L', symbol,
                format('begin insert into spy.called values (%L, current_user); return null; end', symbol));
        end loop;
    end $$;"#;

#[test]
fn nothing_planted_is_called() {
    let mut database = Database::without_extension("planted_operators");
    let mallory = database.role("mallory");
    let mut admin = database.connect();
    run(&mut admin, PLANT);
    run(
        &mut admin,
        "create extension pg_sequin;
         create table item (id integer primary key, name text, gone boolean);
         create table parent (id integer primary key);
         create table child (id integer primary key, parent integer references parent);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item');
         select sequin.map('public.parent', 'parent', guard => 'columns', name => 'parent');
         select sequin.map('public.child', 'child', guard => 'auto', name => 'child')",
    );
    for setting in ["select 1", "set search_path = public, pg_catalog"] {
        run(&mut admin, setting);
        for (lsn, action) in (1..).zip(["insert", "update", "read", "delete", "insert"]) {
            for table in ["item", "parent", "child"] {
                let record = match table {
                    "child" => r#"{"id":1,"parent":1}"#,
                    "item" if action == "update" => r#"{"id":1,"name":"unchanged_toast"}"#,
                    _ => r#"{"id":1}"#,
                };
                apply(&mut admin, &message(action, table, lsn, record));
            }
        }
        apply(&mut admin, &item(9, "nine"));
        apply(
            &mut admin,
            &message("insert", "child", 9, r#"{"id":2,"parent":2}"#),
        );
        apply(&mut admin, &message("insert", "parent", 10, r#"{"id":2}"#));
        apply(&mut admin, "[42]");
        for sql in [
            "select * from sequin.status",
            "select * from sequin.versions",
            "select * from sequin.source_grant",
            "select sequin.begin_resync('item')",
            "select sequin.finish_resync('item', min_confirmed => 0)",
            "select sequin.forget_versions('item')",
            "select sequin.accept_drift('item')",
            "select * from sequin.explain('item')",
            "select * from sequin.retry()",
            "select sequin.discard(id) from sequin.dead_letter",
            "update sequin.mapping set name = 'thing' where id operator(pg_catalog.=) 1",
            "update sequin.mapping set key = '{id}' where id operator(pg_catalog.=) 1",
            "update sequin.mapping set name = 'item' where id operator(pg_catalog.=) 1",
            "select * from sequin.map_schema('public', 'public')",
        ] {
            run(&mut admin, sql);
        }
    }
    run(
        &mut admin,
        &format!("select sequin.grant_source('*.*', '{mallory}')"),
    );
    run(&mut admin, "select sequin.unmap('item')");
    assert_eq!(
        rows(&mut admin, "select distinct what from spy.called"),
        Vec::<String>::new()
    );
}
