-- What 0.2.0 changes in the SQL of 0.1.0. A change of another file of sql/ also goes here, until 0.2.0 is released.

\echo Use "ALTER EXTENSION pg_sequin UPDATE" to load this file. \quit

set local search_path = pg_catalog, pg_temp;

create or replace function sequin_internal.add_guard_columns(destination regclass) returns void
    language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $add$
declare
    statement text;
    relation  record;
begin
    select c.oid::regclass::text as name, c.relkind, pg_has_role(c.relowner, 'USAGE') as owned,
           (select h.inhparent::regclass::text from pg_inherits h where h.inhrelid = c.oid and c.relispartition) as parent
    into relation
    from pg_class c where c.oid = add_guard_columns.destination;
    select format('ALTER TABLE %s %s;', relation.name,
                  string_agg(format('ADD COLUMN %s %s', w.name, w.type), ', ' order by w.n))
    into statement
    from (values (1, 'sequin_lsn', 'bigint'), (2, 'sequin_idx', 'integer'),
                 (3, 'sequin_committed_at', 'timestamp with time zone')) w (n, name, type)
    where not exists (select from pg_attribute a
                      where a.attrelid = add_guard_columns.destination and a.attname = w.name
                        and not a.attisdropped)
    having count(*) > 0;
    if statement is null or relation.relkind is null or relation.relkind not in ('r', 'p') then
        return;
    end if;
    if relation.parent is not null then
        raise exception 'partition % lacks columns that guard ''columns'' needs', relation.name
            using errcode = 'wrong_object_type',
                  detail = 'A partition has the columns of its partitioned table.',
                  hint = format('Add them to all partitions, by a role that owns the table: %s or use guard => ''table''.',
                                replace(statement, 'ALTER TABLE ' || relation.name || ' ', 'ALTER TABLE ' || relation.parent || ' '));
    end if;
    if not relation.owned then
        raise exception 'must be owner of table %', relation.name
            using errcode = 'insufficient_privilege',
                  detail = 'Under guard ''columns'' the versions of rows are kept in columns of the table, which are missing.',
                  hint = 'Let its owner run: ' || statement || ' or use guard => ''table''.';
    end if;
    execute statement;
end
$add$;

create or replace function sequin_internal.mapping_removed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    forgotten bigint;
    kept      boolean = tg_op = 'DELETE' and old.mode = 'upsert' and old.guard <> 'off'
                        and exists (select from pg_class c where c.oid = old.destination);
    anew      boolean = false;
    heir      integer;
begin
    -- Citus makes a table anew, with its rows, to distribute it otherwise or not at all.
    if tg_op = 'UPDATE' and to_regclass('pg_catalog.pg_dist_partition') is not null
       and not exists (select from pg_class c where c.oid = old.destination) then
        anew = exists (select from pg_dist_partition p where p.logicalrelid = new.destination)
               or exists (select from pg_class c where c.oid = new.destination and c.relkind = 'r'
                                                       and pg_relation_size(c.oid) > 0);
    end if;
    if anew then
        update sequin.dead_letter set waits_on = new.destination where waits_on = old.destination;
        if exists (select from sequin.row_version v where v.mapping = old.id) then
            raise notice 'the versions of the rows of mapping "%" are kept', new.name
                using hint = format('If they are of other rows than those of %s, run: SELECT sequin.forget_versions(%L);', new.destination, new.name);
        end if;
        return null;
    end if;
    if old.mode = 'append' then
        -- The first mapping that appends to a table has the sources of its rows.
        select min(m.id) into heir from sequin.mapping m
        where m.destination = old.destination and m.mode = 'append' and m.id <> old.id;
        if heir > old.id then
            insert into sequin.home_source (mapping, source)
            select heir, h.source from sequin.home_source h where h.mapping = old.id
            on conflict (mapping) do update set source = excluded.source;
            with gone as (delete from sequin.row_version v where v.mapping = old.id returning v.key, v.source)
            insert into sequin.row_version (mapping, key, source)
            select heir, g.key, g.source from gone g
            on conflict (mapping, key) do update set source = excluded.source;
        end if;
    end if;
    if kept then
        perform sequin_internal.forget_former(f.id) from sequin.former_mapping f
        where f.source = old.source and f.destination = old.destination and f.owner = old.owner;
        insert into sequin.former_mapping (id, source, destination, owner, in_columns, home_source, key_shape)
        values (old.id, old.source, old.destination, old.owner,
                old.guard = 'columns' or old.guard = 'auto' and sequin_internal.has_guard_columns(old.destination),
                (select h.source from sequin.home_source h where h.mapping = old.id),
                (select k.columns from sequin.key_shape k where k.mapping = old.id));
        with gone as (delete from sequin.row_version v where v.mapping = old.id returning v)
        insert into sequin.former_version (mapping, key, version)
        select old.id, (g.v).key, to_jsonb(g.v) from gone g;
    else
        delete from sequin.row_version where mapping = old.id;
    end if;
    get diagnostics forgotten = row_count;
    if forgotten > 0 and tg_op = 'UPDATE' then
        raise warning 'the versions of % rows of mapping "%" are forgotten', forgotten, new.name
            using detail = 'They are kept for the rows of the former destination. Until the next message of a row, an older change is applied, and a deleted row can come back.',
                  hint = format('Run: SELECT sequin.begin_resync(%L); then start a backfill in Sequin, and run: SELECT sequin.finish_resync(%L);', new.name, new.name);
    elsif forgotten > 0 and kept then
        raise notice 'the versions of % rows of mapping "%" are put aside', forgotten, old.name
            using hint = format('If %s is mapped to %s again within sequin.tombstone_retention, the new mapping takes them over. After that, run a backfill in Sequin: until then, an older change is applied, and a deleted row can come back.', old.source, old.destination);
    elsif forgotten > 0 then
        raise notice 'the versions of % rows of mapping "%" are forgotten', forgotten, old.name
            using hint = 'If you map the source to the table again, run a backfill in Sequin: until then, an older change is applied, and a deleted row can come back.';
    end if;
    delete from sequin.tombstone where mapping = old.id;
    delete from sequin.home_source where mapping = old.id;
    delete from sequin.key_shape where mapping = old.id;
    delete from sequin.unreadable_member where mapping = old.id;
    delete from sequin.lacking_column where mapping = old.id;
    delete from sequin.resync where mapping = old.id;
    delete from sequin.resync_seen where mapping = old.id;
    delete from sequin.broken_mapping where mapping = old.id;
    if tg_op = 'DELETE' then
        -- A later mapping of the same name must not take over the dead letters.
        update sequin.dead_letter set mapping = null, row_key = null, former_key = null
        where mapping = old.name;
    end if;
    return null;
end $$;

-- Not the grants of a role that was dropped: where the dump is restored, another role could have its OID.
select pg_catalog.pg_extension_config_dump('sequin.granted_source', 'where exists (select from pg_catalog.pg_roles r where r.oid operator(pg_catalog.=) role::pg_catalog.oid)');

create function sequin_internal.content(message text) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'content_wrapper';
comment on function sequin_internal.content(text) is 'Internal: what a message says, however it is spelled';
revoke all on function sequin_internal.content(text) from public;
drop index sequin.dead_letter_message;
create index dead_letter_message on sequin.dead_letter (pg_catalog.hashtextextended(case when pg_catalog.octet_length(message) operator(pg_catalog.>) 1048576 then message else sequin_internal.content(message) end, 0)) where row_key is null;

-- Assignments, so that no query of the extension stands in the CONTEXT of errors.
create or replace procedure sequin.retry_all(
    mapping text default null, sqlstate text default null, max bigint default null, portion integer default 1000)
    language plpgsql security invoker as $all$
#variable_conflict use_column
declare
    step pg_catalog.record;
begin
    if coalesce(retry_all.portion operator(pg_catalog.<) 1, true) or retry_all.max operator(pg_catalog.<) 0 then
        raise exception 'portion must be at least 1, and max must not be negative'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of letters that are tried in one transaction, max that of all.';
    end if;
    step = sequin_internal.retry_portion(retry_all.mapping, retry_all.sqlstate, null, retry_all.max);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'letters are retried in one transaction'
            using hint = 'CALL sequin.retry_all commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        step = sequin_internal.retry_portion(retry_all.mapping, retry_all.sqlstate, retry_all.portion, null);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% letters were retried, of which % are gone', step.done, step.healed;
end
$all$;

create or replace procedure sequin.finish_resync_in_portions(
    mapping text, min_confirmed double precision default 0.5, portion integer default 1000)
    language plpgsql security invoker as $portions$
#variable_conflict use_column
declare
    step pg_catalog.record;
begin
    if coalesce(finish_resync_in_portions.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of rows that are deleted in one transaction, at most.';
    end if;
    step = sequin_internal.resync_portion(finish_resync_in_portions.mapping, finish_resync_in_portions.min_confirmed, null);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'rows are deleted in one transaction'
            using hint = 'CALL sequin.finish_resync_in_portions commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        if step.waits operator(pg_catalog.=) 1 then
            perform pg_catalog.pg_sleep(1);
        end if;
        step = sequin_internal.resync_portion(finish_resync_in_portions.mapping, finish_resync_in_portions.min_confirmed,
                                              finish_resync_in_portions.portion);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% rows were deleted', step.deleted;
end
$portions$;

create or replace procedure sequin.discard(
    mapping text, sqlstate text, older_than interval default null, portion integer default 1000)
    language plpgsql security invoker as $discard$
#variable_conflict use_column
declare
    before bigint = pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() operator(pg_catalog.-) discard.older_than)
                    operator(pg_catalog.*) 1000000::pg_catalog.float8;
    step   pg_catalog.record;
begin
    if coalesce(discard.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of letters that are discarded in one transaction.';
    end if;
    step = sequin_internal.discard_portion(discard.mapping, discard.sqlstate, before, null);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'letters are discarded in one transaction'
            using hint = 'CALL sequin.discard commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        step = sequin_internal.discard_portion(discard.mapping, discard.sqlstate, before, discard.portion);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% letters were discarded', step.done;
end
$discard$;

create or replace procedure sequin.prune(portion integer default 1000)
    language plpgsql security invoker as $prune$
#variable_conflict use_column
declare
    step pg_catalog.record;
begin
    if coalesce(prune.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of rows that are pruned in one transaction.';
    end if;
    step = sequin_internal.prune_portion(null);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'rows are pruned in one transaction'
            using hint = 'CALL sequin.prune commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        step = sequin_internal.prune_portion(prune.portion);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% rows were pruned', step.done;
end
$prune$;

create function sequin_internal.farthest_value(relation regclass, column_name text, ascending boolean) returns numeric
    language c volatile strict security invoker as 'MODULE_PATHNAME', 'farthest_value_wrapper';
comment on function sequin_internal.farthest_value(regclass, text, boolean) is
    'Internal: the largest or smallest value of a column; a superuser reads it as the owner of the table';

create or replace function sequin.sync_sequences(
    mapping text default null,
    out sequence regclass, out destination regclass, out column_name text, out last_value bigint)
    returns setof record
    language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $sync$
declare
    own   record;
    state record;
    most  numeric;
begin
    if sync_sequences.mapping is not null
       and not exists (select from sequin.status s where s.name = sync_sequences.mapping) then
        raise exception 'mapping "%" does not exist', sync_sequences.mapping
            using errcode = 'undefined_object', hint = 'The mappings are in the view sequin.status.';
    end if;
    for own in
        select distinct q.oid::regclass as sequence, t.oid::regclass as destination, a.attname::text as name,
               p.seqincrement as step, p.seqmin as least, p.seqmax as largest,
               format('%I.%I', m.nspname, q.relname) as spelled
        from sequin.status s
        join pg_class t on t.oid = s.destination::oid
        join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid and d.refobjsubid > 0
                            and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
        join pg_class q on q.oid = d.objid and q.relkind = 'S'
        join pg_namespace m on m.oid = q.relnamespace
        join pg_sequence p on p.seqrelid = q.oid
        join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid and not a.attisdropped
        join pg_type y on y.oid = coalesce((select b.typbasetype from pg_type b
                                            where b.oid = a.atttypid and b.typtype = 'd'), a.atttypid)
        where (sync_sequences.mapping is null or s.name = sync_sequences.mapping)
          and y.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
        order by 1, 3
    loop
        -- A sequence is never set back: another session may use what it gave out.
        most = sequin_internal.farthest_value(own.destination, own.name, own.step > 0);
        execute format('select q.last_value, q.is_called from %s q', own.spelled) into state;
        if most between own.least and own.largest and most <> 'NaN'::numeric
           and (not state.is_called and (most - state.last_value) * own.step >= 0
                or state.is_called and (most - state.last_value) * own.step > 0) then
            last_value = setval(own.sequence, case when own.step > 0 then floor(most) else ceil(most) end::bigint);
        else
            last_value = case when state.is_called then state.last_value end;
        end if;
        sequence = own.sequence;
        destination = own.destination;
        column_name = own.name;
        return next;
    end loop;
end
$sync$;

create function sequin_internal.has_row(mapping integer, its integer, key bytea, deleted boolean, token bigint) returns boolean
    language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select sequin_internal.in_resync(has_row.mapping, has_row.token)
       and exists (select from sequin.row_version v
                   where v.mapping = has_row.its and v.key = has_row.key and (has_row.deleted or not v.deleted)) $$;
comment on function sequin_internal.has_row(integer, integer, bytea, boolean, bigint) is 'Internal to sequin.finish_resync: whether a mapping has the row, or had it before it was deleted';

comment on column sequin.lacking_column.name is 'Column of the destination; for a member that SQL reads: the column, or filter, and the member in parentheses';

-- ALTER DEFAULT PRIVILEGES gives privileges to new functions: only these remain.
do $$
declare
    member record;
begin
    for member in
        select p.oid::pg_catalog.regprocedure::pg_catalog.text as name,
               case when a.grantee operator(pg_catalog.=) 0::pg_catalog.oid then 'public'
                    else a.grantee::pg_catalog.regrole::pg_catalog.text end as role
        from pg_catalog.pg_proc p
        cross join lateral pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f'::pg_catalog."char", p.proowner))) a
        where p.pronamespace operator(pg_catalog.=) 'sequin_internal'::pg_catalog.regnamespace
          and p.proname operator(pg_catalog.=) any (array['content', 'farthest_value', 'has_row']::pg_catalog.name[])
          and a.grantee operator(pg_catalog.<>) p.proowner
    loop
        execute pg_catalog.format('revoke all on function %s from %s cascade', member.name, member.role);
    end loop;
end $$;
grant execute on function sequin_internal.farthest_value(regclass, text, boolean) to public;
comment on function sequin.resume(text) is 'Starts a paused mapping again; the next call with a message for it applies those that were kept before';
