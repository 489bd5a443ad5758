-- Everything that the extension consists of, a line each.
with member as (
    select d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) as name
    from pg_depend d join pg_extension e on e.oid = d.refobjid
    where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'pg_sequin'
), relation as (
    select c.oid, m.name, c.relkind, c.relacl, c.reloptions, c.relrowsecurity, c.relforcerowsecurity,
           c.relpersistence, c.relowner, c.relreplident
    from member m join pg_class c on m.classid = 'pg_class'::regclass and m.objid = c.oid
)
select 'member ' || m.name from member m
union all
select 'comment ' || m.name || coalesce(' column ' || a.attname, '') || ': ' || d.description
from member m
join pg_description d on d.classoid = m.classid and d.objoid = m.objid
left join pg_attribute a on m.classid = 'pg_class'::regclass and a.attrelid = m.objid and a.attnum = d.objsubid
                            and d.objsubid <> 0
union all
select 'relation ' || r.name || ' ' || concat_ws(' ', r.relkind, r.relpersistence, r.relreplident, r.relrowsecurity,
       r.relforcerowsecurity, r.reloptions, 'acl', coalesce(r.relacl::text, 'default'), 'owner', r.relowner::regrole)
from relation r
union all
select 'column ' || r.name || ' ' || concat_ws(' ', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attidentity, a.attgenerated, a.attstorage, a.attstattarget, a.attacl, pg_get_expr(d.adbin, d.adrelid))
from relation r
join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where r.relkind in ('r', 'v', 'c')
union all
select 'view ' || r.name || ' ' || pg_get_viewdef(r.oid) from relation r where r.relkind = 'v'
union all
select 'index ' || pg_get_indexdef(i.indexrelid) || ' valid ' || i.indisvalid
from relation r join pg_index i on i.indrelid = r.oid
union all
select 'constraint ' || r.name || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || ' ' || k.convalidated
from relation r join pg_constraint k on k.conrelid = r.oid
union all
select 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
from relation r join pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
union all
select 'policy ' || r.name || ' ' || concat_ws(' ', p.polname, p.polcmd, p.polpermissive, p.polroles,
       pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
from relation r join pg_policy p on p.polrelid = r.oid
union all
select 'rule ' || pg_get_ruledef(w.oid) from relation r join pg_rewrite w on w.ev_class = r.oid
union all
select 'sequence ' || r.name || ' ' || (s.*)::text
from relation r cross join lateral
    (select seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle from pg_sequence where seqrelid = r.oid) s
union all
select 'function ' || pg_get_functiondef(p.oid) || ' ' || concat_ws(' ', 'acl', coalesce(p.proacl::text, 'default'),
       'owner', p.proowner::regrole, 'result', pg_get_function_result(p.oid))
from member m join pg_proc p on m.classid = 'pg_proc'::regclass and m.objid = p.oid
union all
select 'schema ' || m.name || ' ' || concat_ws(' ', coalesce(n.nspacl::text, 'default'), n.nspowner::regrole)
from member m join pg_namespace n on m.classid = 'pg_namespace'::regclass and m.objid = n.oid
union all
-- The privileges that pg_dump takes as the extension's own.
select 'initial privileges ' || m.name || ' ' || i.objsubid || ' ' || i.initprivs::text
from member m join pg_init_privs i on i.classoid = m.classid and i.objoid = m.objid
union all
select 'dumped ' || c.relation::regclass || ' ' || c.condition
from pg_extension e, unnest(e.extconfig, e.extcondition) c(relation, condition) where e.extname = 'pg_sequin'
union all
select 'extension ' || concat_ws(' ', e.extversion, e.extrelocatable, e.extnamespace::regnamespace)
from pg_extension e where e.extname = 'pg_sequin'
order by 1
