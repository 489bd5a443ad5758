//! An owner of mappings has EXECUTE and no privilege on a table of the extension: he makes, changes and removes
//! mappings, reads his own rows through views, and cannot lock the catalog for everybody.

use support::{Database, apply, code, error, message, run, upserted, value};

#[test]
fn an_owner_without_a_right_to_write_the_catalog() {
    let mut database = Database::new("security_owners_need_no_tables");
    let (owner, other) = (database.role("owner"), database.role("other"));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create schema mine authorization {owner};
             grant execute on function sequin.map, sequin.map_schema, sequin.alter_mapping,
                 sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text),
                 sequin.begin_resync, sequin.finish_resync, sequin.forget_versions, sequin.accept_drift, sequin.explain(text),
                 sequin.explain(jsonb), sequin.explain_batch to {owner}, {other};
             select sequin.grant_source('public.item', '{owner}')"
        ),
    );
    let mut client = database.connect_as(&owner);
    run(
        &mut client,
        "create table mine.item (id integer primary key, name text);
         select sequin.map('public.item', 'mine.item', name => 'item')",
    );
    let made = "select owner::text, search_path from sequin.mapping";
    assert!(value(&mut admin, made).starts_with(&format!("{owner}|")));
    let insert = message("insert", "item", 1, r#"{"id":1,"name":"a"}"#);
    assert_eq!(apply(&mut admin, &insert), upserted(1));
    run(
        &mut client,
        "select sequin.alter_mapping('item', filter => 'record->>''name'' <> ''b''')",
    );
    assert_eq!(
        value(&mut admin, "select filter, on_error from sequin.mapping"),
        "record->>'name' <> 'b'|dead_letter"
    );
    // Every setting can be changed, and set back.
    run(
        &mut client,
        r#"create table mine.other (id integer primary key, name text, gone boolean, unique (id, name));
           select sequin.alter_mapping('item', destination => 'mine.other', on_delete => 'soft', soft_delete => 'gone',
               key => array['id', 'name'], columns => '{"*": "record.*"}', on_error => 'raise', enabled => false,
               guard => 'table')"#,
    );
    let settings =
        "select destination::text, columns::text, key::text, filter, mode, on_delete, soft_delete,
                           on_error, guard, enabled from sequin.own_mapping";
    assert_eq!(
        value(&mut client, settings),
        r#"mine.other|{"*": "record.*"}|{id,name}|record->>'name' <> 'b'|upsert|soft|gone|raise|table|f"#
    );
    run(
        &mut client,
        "select sequin.alter_mapping('item', reset => array['columns', 'key', 'filter', 'on_delete', 'soft_delete',
             'on_error', 'guard', 'enabled'])",
    );
    assert_eq!(
        value(&mut client, settings),
        "mine.other|null|null|null|upsert|delete|null|dead_letter|auto|t"
    );
    run(
        &mut client,
        "select sequin.alter_mapping('item', mode => 'append'); select sequin.alter_mapping('item', reset => '{mode}');
         select sequin.alter_mapping('item', mode => 'append', reset => '{destination}')",
    );
    assert_eq!(
        value(&mut client, settings),
        "null|null|null|null|append|delete|null|dead_letter|auto|t"
    );
    run(
        &mut client,
        "select sequin.alter_mapping('item', destination => 'mine.item', reset => '{mode}')",
    );
    for (reset, hint) in [
        ("reset => '{filtre}'", "\"filter\""),
        ("reset => '{name}'", "reset takes"),
        ("reset => array[null]", "reset takes"),
        ("filter => 'true', reset => '{filter}'", "Give it a value"),
        ("reset => '{source}'", "reset takes"),
    ] {
        let refused = error(
            &mut client,
            &format!("select sequin.alter_mapping('item', {reset})"),
        );
        assert_eq!(code(&refused), "22023", "{reset}");
        let told = refused.hint().unwrap_or_default();
        assert!(told.contains(hint), "{reset}: {told}");
    }
    // What the trigger refuses, it refuses here too.
    let foreign = "select sequin.map('public.other', 'mine.item', name => 'other')";
    assert_eq!(code(&error(&mut client, foreign)), "42501");
    let wrong = "select sequin.alter_mapping('item', on_error => 'shrug')";
    assert_eq!(code(&error(&mut client, wrong)), "22023");
    // Nobody else's, and nothing of the catalog.
    let mut client_of_other = database.connect_as(&other);
    for sql in [
        "select sequin.alter_mapping('item', enabled => false)",
        "select sequin.unmap('item')",
        "select * from sequin.retry('item')",
        "select sequin.begin_resync('item')",
        "select sequin.finish_resync('item')",
        "select sequin.forget_versions('item')",
        "select sequin.accept_drift('item')",
    ] {
        assert_eq!(code(&error(&mut client_of_other, sql)), "42704", "{sql}");
    }
    let replace = "select sequin.map('public.item', null, name => 'item')";
    assert_eq!(code(&error(&mut client_of_other, replace)), "42501");
    for sql in [
        "do $$ begin lock table sequin.mapping in access exclusive mode; end $$",
        "do $$ begin lock table sequin.dead_letter in access exclusive mode; end $$",
        "update sequin.mapping set enabled = false",
        "insert into sequin.mapping (source) values ('public.item')",
        "delete from sequin.dead_letter",
        "select from sequin.mapping",
        "select from sequin.dead_letter",
        "do $$ begin lock table sequin.own_mapping in access exclusive mode; end $$",
        "do $$ begin lock table sequin.own_dead_letter in row exclusive mode; end $$",
        "do $$ begin create view mine.v as select * from sequin.own_mapping; lock table mine.v in share mode; end $$",
        "update sequin.own_mapping set enabled = false",
        "delete from sequin.own_dead_letter",
        "select from sequin.own_mapping for update",
    ] {
        assert_eq!(code(&error(&mut client, sql)), "42501", "{sql}");
    }
    let others = "select count(*) from sequin.own_mapping";
    assert_eq!(value(&mut client_of_other, others), "0");
    assert_eq!(value(&mut client, others), "1");
    for explained in ["'item'", "jsonb_build_object('x', 1)"] {
        let rows = format!("select count(*) > 0 from sequin.explain({explained})");
        assert_eq!(value(&mut client, &rows), "t", "{explained}");
    }
    // His letters, his rows, and all tables of a schema.
    let bad = |n| message("insert", "item", n, r#"{"id":"x"}"#);
    assert_eq!(
        apply(&mut admin, &support::batch(&[bad(2), bad(3)])).dead,
        2
    );
    let letters = "select string_agg(id::text, ',' order by id) from sequin.own_dead_letter";
    let ids = value(&mut client, letters);
    let (first, second) = ids.split_once(',').expect("two");
    assert_eq!(
        value(
            &mut client_of_other,
            "select count(*) from sequin.own_dead_letter"
        ),
        "0"
    );
    assert_eq!(
        value(&mut client_of_other, "select received from sequin.retry()"),
        "0"
    );
    for call in ["discard", "retry"] {
        let sql = format!("select sequin.{call}({first})");
        assert_eq!(code(&error(&mut client_of_other, &sql)), "42704", "{call}");
    }
    for retry in ["", first, "'item'::text"] {
        let tried = value(
            &mut client,
            &format!("select dead > 0 from sequin.retry({retry})"),
        );
        assert_eq!(tried, "t", "{retry}");
    }
    run(&mut client, &format!("select sequin.discard({first})"));
    assert_eq!(value(&mut client, letters), second);
    run(
        &mut client,
        "select sequin.begin_resync('item'); select sequin.finish_resync('item', dry_run => true);
         select sequin.finish_resync('item', min_confirmed => 0); select sequin.forget_versions('item'); select sequin.accept_drift('item')",
    );
    assert_eq!(value(&mut client, "select count(*) from mine.item"), "0");
    run(&mut client, "select sequin.unmap('item')");
    let schema = "select string_agg(source, ',') from sequin.map_schema('public', 'mine')";
    assert_eq!(code(&error(&mut client, schema)), "42501");
    run(&mut client, "drop table mine.other");
    assert_eq!(value(&mut client, schema), "public.item");
    run(
        &mut client,
        "select sequin.unmap(name) from sequin.own_mapping",
    );
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.mapping"),
        "0"
    );
}
