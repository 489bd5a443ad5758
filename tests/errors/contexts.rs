//! CONTEXT says which function was called, and shows no SQL of the extension.

use support::{Database, error, run};

#[test]
fn no_error_shows_sql_of_the_extension() {
    let mut database = Database::new("contexts");
    let stranger = database.role("stranger");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id serial primary key, name text);
             select sequin.map('public.item', 'item', guard => 'off', name => 'item');
             grant execute on all functions in schema sequin to {stranger};
             grant execute on all procedures in schema sequin to {stranger}"
        ),
    );
    let calls = [
        "call sequin.retry_all('nobody')",
        "call sequin.retry_all(portion => 0)",
        "call sequin.discard('nobody', null)",
        "call sequin.finish_resync_in_portions('nobody')",
        "call sequin.finish_resync_in_portions('item')",
        "call sequin.prune(0)",
        "select sequin.map('public.item', 'item', key => '{nobody}')",
        "select sequin.map('public .item', null)",
        "select sequin.map_schema('public', 'nobody')",
        "select sequin.alter_mapping('nobody')",
        "select sequin.alter_mapping('item', mode => 'none')",
        "select sequin.pause('nobody')",
        "select sequin.unmap('nobody')",
        "select sequin.retry('nobody')",
        "select sequin.retry(1)",
        "select sequin.discard(1)",
        "select sequin.begin_resync('nobody')",
        "select sequin.finish_resync('item')",
        "select sequin.sync_sequences('nobody')",
        "select * from sequin.explain_batch('{')",
        "select * from sequin.explain('{}')",
        "select sequin.fingerprint(0)",
        "select sequin.grant_source('x', 'nobody')",
        "select sequin_apply('{'::jsonb || '{'::jsonb)",
        "select sequin_apply('{'::text)",
    ];
    let mut stranger = database.connect_as(&stranger);
    for client in [&mut admin, &mut stranger] {
        for call in calls {
            let error = error(client, call);
            let context = error.where_().unwrap_or_default();
            assert!(
                !context.contains("SQL statement") && !context.contains("SQL expression"),
                "{call}: {context}"
            );
        }
    }
}
