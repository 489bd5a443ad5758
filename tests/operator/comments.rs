//! `\d+`, `\df+` and the like say of every object what it is.

use support::{Database, rows};

#[test]
fn every_object_has_a_comment() {
    let database = Database::new("comments");
    let without = "
        select pg_describe_object(d.classid, d.objid, 0)
        from pg_depend d join pg_extension e on e.oid = d.refobjid
        where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'pg_sequin'
          and (d.classid in ('pg_proc'::regclass, 'pg_namespace'::regclass)
               or d.classid = 'pg_class'::regclass
                  and exists (select from pg_class c where c.oid = d.objid and c.relkind in ('r', 'v')))
          and not exists (select from pg_description c
                          where c.classoid = d.classid and c.objoid = d.objid and c.objsubid = 0
                            and btrim(c.description) <> '')
        order by 1";
    assert_eq!(rows(&mut database.connect(), without), [""; 0]);
    let columns = "
        select format('%s.%s', c.oid::regclass, a.attname)
        from pg_depend d join pg_extension e on e.oid = d.refobjid
        join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind in ('r', 'v')
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'pg_sequin'
          and not exists (select from pg_description t
                          where t.classoid = 'pg_class'::regclass and t.objoid = c.oid and t.objsubid = a.attnum)
        order by 1";
    assert_eq!(rows(&mut database.connect(), columns), [""; 0]);
}
