-- Sequences of destinations, which messages do not advance.

create function sequin_internal.farthest_value(relation regclass, column_name text, ascending boolean) returns numeric
    language c volatile strict security invoker as 'MODULE_PATHNAME', 'farthest_value_wrapper';
comment on function sequin_internal.farthest_value(regclass, text, boolean) is
    'Internal: the largest or smallest value of a column; a superuser reads it as the owner of the table';

create function sequin.sync_sequences(
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
comment on function sequin.sync_sequences(text) is
    'Sets the sequences of a mapping''s destination, or of all destinations, to the largest value in the table, so that the table''s own inserts go on after the replicated rows; returns each sequence with its last value, null if it was never used';
