//! Privileges on `sequin.mapping` and BYPASSRLS do not give the rights of other owners.

use support::{Database, code, error, run, value};

#[test]
fn a_mapping_of_another_owner_cannot_be_rewritten() {
    let mut database = Database::new("foreign_mappings");
    let mallory = database.role("mallory");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table t (id integer primary key, name text);
             select sequin.map('public.t', 't', guard => 'off', name => 't');
             alter role {mallory} bypassrls;
             grant select, insert, update, delete on sequin.mapping to {mallory};
             select sequin.grant_source('*.*', '{mallory}')"
        ),
    );
    let mut client = database.connect_as(&mallory);
    for sql in [
        r#"update sequin.mapping set columns = '{"*": "record.*", "name": {"sql": "pg_read_file(''x'')"}}'"#,
        "update sequin.mapping set enabled = false",
        "update sequin.mapping set name = 'other'",
        "delete from sequin.mapping",
        &format!("update sequin.mapping set owner = '{mallory}'"),
    ] {
        let refused = error(&mut client, sql);
        assert_eq!(code(&refused), "42501", "{sql}");
        assert_eq!(
            refused.message(),
            "must have the rights of the owner of mapping \"t\""
        );
        assert!(refused.hint().is_some());
    }
    assert_eq!(value(&mut admin, "select enabled from sequin.mapping"), "t");
}

/// Code of the owner of a table runs while a superuser changes the mapping to it: it changes mappings with its own rights.
#[test]
fn code_that_runs_while_a_superuser_alters_a_mapping() {
    let mut database = Database::new("altered_meanwhile");
    let mallory = database.role("mallory");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create schema mallory authorization {mallory};
             create table t (id integer primary key, name text);
             select sequin.map('public.t', 't', guard => 'off', name => 't');
             alter role {mallory} bypassrls;
             grant select, insert, update, delete on sequin.mapping to {mallory};
             grant execute on all functions in schema sequin to {mallory};
             select sequin.grant_source('*.*', '{mallory}')"
        ),
    );
    run(
        &mut database.connect_as(&mallory),
        r#"create table mallory.item (id integer primary key, sequin_lsn bigint, sequin_idx integer,
                                      sequin_committed_at timestamptz);
           insert into mallory.item values (1, 1, 1, now());
           create table mallory.told (what text);
           create function mallory.act() returns trigger language plpgsql as $$
           declare
               done text;
           begin
               foreach done in array array['update sequin.mapping set enabled = false where name = ''t''',
                   'insert into sequin.mapping (source, destination, owner, name) select source, destination, owner, ''x''
                    from sequin.mapping where name = ''t''',
                   'select sequin.pause(''t'')', 'select sequin.unmap(''t'')'] loop
                   begin
                       execute done;
                       insert into mallory.told values ('done: ' || done);
                   exception when others then
                       insert into mallory.told values (sqlstate);
                   end;
               end loop;
               return new;
           end $$;
           create trigger act before update on mallory.item for each row execute function mallory.act()"#,
    );
    run(
        &mut admin,
        "select sequin.map('public.item', 'mallory.item', guard => 'table', name => 'item');
         insert into sequin.row_version (mapping, key, lsn, idx)
             select m.id, sequin.row_key(1), 2, 0 from sequin.mapping m where m.name = 'item';
         select sequin.alter_mapping('item', guard => 'columns')",
    );
    let told = "select string_agg(distinct what, ',' order by what) from mallory.told";
    assert_eq!(value(&mut admin, told), "42501,42704");
    let left = "select name, enabled from sequin.mapping order by name";
    assert_eq!(support::rows(&mut admin, left), ["item|t", "t|t"]);
}
