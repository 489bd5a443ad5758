//! Default privileges give nobody anything of the extension's.

use support::{Database, rows, run};

#[test]
fn default_privileges_do_not_reach_the_extensions_objects() {
    let mut database = Database::without_extension("default_privileges");
    let mallory = database.role("mallory");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "alter default privileges grant all on tables to {mallory}, public;
             alter default privileges grant all on functions to {mallory};
             alter default privileges grant all on sequences to {mallory};
             alter default privileges grant all on schemas to {mallory} with grant option;
             create extension pg_sequin"
        ),
    );
    let got = format!(
        "select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a
         where c.relnamespace in ('sequin'::regnamespace, 'sequin_internal'::regnamespace)
           and (a.grantee = '{mallory}'::regrole
                or a.grantee = 0 and (c.relkind <> 'v' or a.privilege_type <> 'SELECT'))
         union all
         select p.oid::regprocedure::text from pg_proc p, aclexplode(p.proacl) a
         where (p.pronamespace in ('sequin'::regnamespace, 'sequin_internal'::regnamespace) or p.proname = 'sequin_apply')
           and a.grantee = '{mallory}'::regrole
         union all
         select nspname from pg_namespace, aclexplode(nspacl) a
         where nspname in ('sequin', 'sequin_internal') and a.grantee = '{mallory}'::regrole"
    );
    assert_eq!(rows(&mut admin, &got), Vec::<String>::new());
}
