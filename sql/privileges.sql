-- The privileges on the extension's objects. ALTER DEFAULT PRIVILEGES and the server's own defaults give
-- privileges to new objects: all of these are revoked, and only the grants below remain.

do $$
declare
    member record;
begin
    for member in
        select o.kind, o.name, a.grantee,
               case when a.grantee operator(pg_catalog.=) 0::pg_catalog.oid then 'public'
                    else a.grantee::pg_catalog.regrole::pg_catalog.text end as role
        from pg_catalog.pg_extension e
        join pg_catalog.pg_depend d on d.refobjid operator(pg_catalog.=) e.oid
        cross join lateral (
            select 'routine' as kind, p.oid::pg_catalog.regprocedure::pg_catalog.text as name, p.proowner as owner,
                   coalesce(p.proacl, pg_catalog.acldefault('f'::pg_catalog."char", p.proowner)) as acl
            from pg_catalog.pg_proc p
            where d.classid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
              and p.oid operator(pg_catalog.=) d.objid
            union all
            select case when c.relkind operator(pg_catalog.=) 'S'::pg_catalog."char" then 'sequence' else 'table' end,
                   c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner, c.relacl
            from pg_catalog.pg_class c
            where d.classid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
              and c.oid operator(pg_catalog.=) d.objid
              and c.relkind operator(pg_catalog.=) any (array['r', 'v', 'S']::pg_catalog."char"[])
            union all
            select 'schema', n.oid::pg_catalog.regnamespace::pg_catalog.text, n.nspowner, n.nspacl
            from pg_catalog.pg_namespace n
            where d.classid operator(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid
              and n.oid operator(pg_catalog.=) d.objid) o
        cross join lateral pg_catalog.aclexplode(o.acl) a
        where e.extname operator(pg_catalog.=) 'pg_sequin'::pg_catalog.name
          and d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
          and a.grantee operator(pg_catalog.<>) o.owner
        group by o.kind, o.name, a.grantee
    loop
        execute pg_catalog.format('revoke all on %s %s from %s cascade', member.kind, member.name, member.role);
    end loop;
end $$;

grant usage on schema sequin, sequin_internal to public;
grant select on sequin.status, sequin.versions, sequin.source_grant, sequin.progress, sequin.waiting to public;
grant select on sequin.failed_calls, sequin.activity, sequin.letters, sequin.storage to public;
grant select on sequin.own_mapping, sequin.own_dead_letter to public;
grant execute on function
    sequin_internal.save_mapping(text, oid, text, text[], text, text, text, text, text, text, text), -- checks EXECUTE on sequin.map
    sequin_internal.retry_portion(text, text, bigint, bigint), -- checks EXECUTE on sequin.retry_all
    sequin_internal.discard_portion(text, text, bigint, bigint), -- checks EXECUTE on sequin.discard
    sequin_internal.prune_portion(bigint), -- checks EXECUTE on sequin.prune
    sequin_internal.resync_portion(text, double precision, bigint), -- checks EXECUTE on sequin.finish_resync_in_portions
    sequin_internal.explain_rows(text), -- checks EXECUTE on sequin.explain_batch
    sequin.check(), -- shows the caller's own mappings
    sequin_internal.farthest_value(regclass, text, boolean), -- reads with the caller's rights
    sequin_internal.has_guard_columns(regclass), sequin_internal.add_guard_columns(regclass), sequin.build_profile(),
    sequin.fingerprint(regclass, text[], integer, text[]),
    sequin.fingerprint_query(regclass, text[], integer, text[], text)
    to public;
