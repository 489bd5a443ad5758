//! Mappings that are paused.

use support::{Database, apply, apply_error, batch, error, rows, run, value};

use super::{counted, insert};

#[test]
fn a_paused_mapping_refuses_until_it_is_resumed() {
    let database = Database::new("pause");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text);
         create table other (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'it''s');
         select sequin.map('public.other', 'other', guard => 'table', name => 'other');
         select sequin.map('public.nothing', null, name => 'nothing')",
    );
    let mixed = |lsn| batch(&[insert("other", lsn, lsn), insert("item", lsn, lsn)]);
    apply(&mut forwarder, &mixed(1));

    // A call that is under way is not stopped; the next one is, also in its transaction.
    run(&mut forwarder, "begin");
    apply(&mut forwarder, &mixed(2));
    run(
        &mut admin,
        "set lock_timeout = '2s'; update sequin.mapping set enabled = false where name <> 'other'",
    );
    run(&mut forwarder, "savepoint a");
    assert_eq!(
        apply_error(&mut forwarder, &mixed(3)).code().code(),
        "55000"
    );
    run(&mut forwarder, "rollback to a; commit");

    for mut session in [forwarder, database.connect()] {
        let refused = apply_error(&mut session, &mixed(3));
        assert_eq!(refused.code().code(), "55000");
        assert_eq!(refused.message(), "mapping \"it's\" is paused");
        assert_eq!(
            refused.detail(),
            Some("Nothing of this batch was applied, so that the sender tries again later.")
        );
        // Nothing of the batch is applied, the other mapping's part neither.
        assert_eq!(
            rows(&mut session, "select id from other order by id"),
            ["1", "2"]
        );
        assert_eq!(
            apply_error(&mut session, &insert("nothing", 1, 1))
                .code()
                .code(),
            "55000"
        );
        let jsonb = format!("select sequin_apply('{}'::jsonb)", mixed(3));
        assert_eq!(error(&mut session, &jsonb).code().code(), "55000");
    }
    let mut forwarder = database.connect();
    assert_eq!(apply(&mut forwarder, &insert("other", 4, 4)).upserted, 1);
    assert_eq!(counted(&mut admin, "it''s"), "2|2|2|0|0|0|0|0|0");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );

    let hint = apply_error(&mut forwarder, &mixed(3))
        .hint()
        .unwrap()
        .to_owned();
    let resume = hint.strip_prefix("To resume it, run: ").unwrap();
    run(&mut admin, "begin");
    run(&mut admin, resume);
    assert_eq!(
        apply_error(&mut forwarder, &mixed(3)).code().code(),
        "55000"
    );
    run(&mut admin, "commit");
    assert_eq!(apply(&mut forwarder, &mixed(3)).upserted, 2);
    assert_eq!(
        rows(
            &mut admin,
            "select name, state from sequin.status order by name"
        ),
        ["it's|running", "nothing|paused", "other|running"]
    );
}
