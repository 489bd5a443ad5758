//! Errors of a server that runs with `RUST_BACKTRACE`, as the one of these tests does.

use support::{Database, error, run};

#[test]
fn no_error_shows_a_backtrace() {
    let database = Database::new("backtraces");
    let mut client = database.connect();
    run(
        &mut client,
        "create function fails() returns event_trigger language plpgsql as $$ begin raise 'no'; end $$;
         create table item (id bigint primary key, name text);
         create function refuse() returns trigger language plpgsql as
             $$ begin raise 'no' using detail = 'It is refused.', errcode = '22023'; end $$;
         select sequin.map('public.item', 'item', name => 'item')",
    );
    run(
        &mut client,
        "create trigger refuse before delete on sequin.mapping for each row execute function refuse();
         create trigger refuse before insert or delete on sequin.resync for each row execute function refuse()",
    );
    for (call, detail) in [
        // through Spi
        ("sequin.unmap('item')", Some("It is refused.")),
        ("sequin.begin_resync('item')", Some("It is refused.")),
        // of pgrx, and of this extension
        ("sequin.fingerprint(0::regclass)", None),
        ("sequin.unmap('other')", None),
        ("sequin.explain('other')", None),
        ("sequin_internal.next_row(1)", None),
        ("sequin_internal.batch() as t(a integer)", None),
        (
            "sequin_apply('{')",
            Some(
                "Expected a string or \"}\", but found the end of the text at byte 1 of the batch.",
            ),
        ),
        ("sequin.map('a.b.c.d.e', 'item')", None),
        ("sequin_internal.counter_removed()", None),
        ("sequin_internal.mapping_check()", None),
    ] {
        let error = error(&mut client, &format!("select * from {call}"));
        let said = error.detail().unwrap_or_default();
        assert!(
            !said.contains(".rs") && !said.contains("::") && said.lines().count() <= 1,
            "{call}: {said}"
        );
        if let Some(detail) = detail {
            assert_eq!(error.detail(), Some(detail), "{call}");
        }
    }
}

/// Every function with values of no sense, within a procedure that catches the error.
#[test]
fn nor_does_one_within_a_procedure() {
    let database = Database::new("backtraces_within");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create table told (call text, detail text, context text);
         create procedure try(call text) language plpgsql as $$
         declare
             d text;
             c text;
         begin
             execute call;
         exception when others then
             get stacked diagnostics d = pg_exception_detail, c = pg_exception_context;
             insert into told values (call, d, c);
         end $$;
         create procedure try_all() language plpgsql as $$
         declare
             call text;
         begin
             for call in
                 select format(case when p.prokind = 'p' then 'call %I.%I(%s)' else 'select %I.%I(%s)' end,
                               n.nspname, p.proname,
                               (select string_agg(format('%L::%s', v, case t when '"any"'::regtype then 'text'
                                                                      else t::regtype::text end), ', ' order by o)
                                from unnest(p.proargtypes::oid[]) with ordinality u(t, o)))
                 from pg_proc p
                 join pg_namespace n on n.oid = p.pronamespace
                 join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
                 join pg_extension e on e.oid = d.refobjid and e.extname = 'pg_sequin'
                 cross join unnest(array[null, 'x', '{}', '0']) v
             loop
                 call try(call);
             end loop;
         end $$;
         set client_min_messages = error;
         call try_all()"#,
    );
    let count = support::value(&mut client, "select count(*) > 50 from told");
    assert_eq!(count, "t");
    let told = r"select * from told where detail ~ '\.rs|rust|panicked' or context ~ '\.rs:'";
    assert_eq!(support::rows(&mut client, told), Vec::<String>::new());
}
