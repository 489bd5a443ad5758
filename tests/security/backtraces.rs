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
