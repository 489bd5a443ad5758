//! Names in the extension's functions are looked up where no caller can put anything: under a search_path of the function's
//! own, which ends in `pg_temp`. Otherwise temporary tables come first.

use support::{Database, rows};

/// Those that set it themselves: `sequin.map` notes the caller's. Procedures that commit cannot have settings, and qualify
/// every name, which `.ci/pgspot` checks.
const OTHERS: &str = "'sequin_apply', 'map'";

const OF_THE_EXTENSION: &str = "pg_proc p join pg_language l on l.oid = p.prolang
    join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    join pg_extension e on e.oid = d.refobjid and e.extname = 'pg_sequin'";

#[test]
fn each_function_has_one_that_ends_in_pg_temp() {
    let database = Database::new("search_paths");
    let mut client = database.connect();
    let paths = format!(
        "select format('%s %s %s', p.oid::regprocedure, p.prosecdef, p.proconfig) from {OF_THE_EXTENSION}
         where (p.prosecdef or l.lanname in ('sql', 'plpgsql')) and p.prokind <> 'p'
             and p.proname not in ({OTHERS})
             and coalesce((select setting from unnest(p.proconfig) setting where setting ~ '^search_path='), '')
                 !~ '(=|[, ])\"?pg_temp\"?$'"
    );
    assert_eq!(rows(&mut client, &paths), [""; 0]);
    let definers = format!("select count(*) > 5 from {OF_THE_EXTENSION} where p.prosecdef");
    assert_eq!(rows(&mut client, &definers), ["t"]);
}
