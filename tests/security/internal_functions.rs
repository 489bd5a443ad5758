//! What the extension's own statements call is not for everybody.

use support::{Database, apply, code, error, item, run, upserted, value};

#[test]
fn a_stranger_executes_no_internal_function() {
    let mut database = Database::new("internal_functions");
    let (stranger, alice) = (database.role("stranger"), database.role("alice"));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text);
             alter table item owner to {alice};
             grant create on schema public to {alice};
             select sequin.grant_source('public.*', '{alice}');
             grant select, insert, update on sequin.mapping to {alice};
             grant execute on function sequin.map to {alice}"
        ),
    );
    let mut client = database.connect_as(&stranger);
    for sql in [
        "select sequin.row_key(1)",
        "select sequin.row_key(variadic array[1])",
        "select sequin_internal.next_row()",
        "select * from sequin_internal.batch() b (id integer)",
        "select sequin_internal.in_resync(1, 1)",
        "select sequin_internal.is_confirmed(1, '', 1)",
        "select sequin_internal.is_known(1, '', 1)",
        "select sequin_internal.has_row(1, 1, '', true, 1)",
        "select sequin_internal.note_gone(1, '', 1, 1, now(), 1)",
        "select * from sequin_internal.explain_rows('[]')",
        "select * from sequin.explain_batch('[]')",
        "select * from sequin.explain('[]'::jsonb)",
        "select * from sequin.explain('x')",
        "select * from sequin.retry()",
        "select sequin.discard(1)",
        "select sequin.begin_resync('item')",
        "select sequin.finish_resync('item')",
        "select sequin.forget_versions('item')",
        "select sequin.accept_drift('item')",
        "select sequin.alter_mapping('item')",
        "select sequin.unmap('item')",
        "select sequin.map('public.item', null)",
        "select sequin.map_schema('public', 'public')",
        "select sequin.grant_source('*.*', current_user::regrole)",
        "select * from sequin.granted_source",
    ] {
        assert_eq!(code(&error(&mut client, sql)), "42501", "{sql}");
    }
    // The owner's statements may.
    run(
        &mut database.connect_as(&alice),
        "select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    assert_eq!(apply(&mut admin, &item(1, "one")), upserted(1));
    assert_eq!(value(&mut admin, "table item"), "1|one");
}

/// The right to a function of the same name is not enough for a step of what others are granted.
#[test]
fn a_step_asks_for_the_right_to_the_whole() {
    let mut database = Database::new("steps");
    let role = database.role("role");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "grant execute on function sequin.explain(text), sequin.discard(bigint) to {role}"
        ),
    );
    let mut client = database.connect_as(&role);
    for sql in [
        "select * from sequin_internal.explain_rows('[]')",
        "select * from sequin_internal.discard_portion(null, '23514', null, null)",
    ] {
        let refused = error(&mut client, sql);
        assert_eq!(code(&refused), "42501", "{sql}");
        assert!(refused.hint().expect("a HINT").contains("GRANT EXECUTE ON"));
    }
    run(
        &mut admin,
        &format!(
            "grant execute on procedure sequin.discard(text, text, interval, integer) to {role}"
        ),
    );
    run(&mut client, "call sequin.discard(null, '23514')");
}
