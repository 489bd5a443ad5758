-- Counters and the state of each mapping.

-- A row for each mapping and backend slot. Only the backend in the slot writes the row, so that writers never
-- wait for each other. The updates are HOT: they change no indexed column, and the fillfactor leaves room in
-- the page. The library writes the table without SQL and knows the columns by position.
create table sequin.counter (
    mapping               integer not null,
    slot                  integer not null,
    calls                 bigint not null,
    received              bigint not null,
    upserted              bigint not null,
    deleted               bigint not null,
    collapsed             bigint not null,
    stale                 bigint not null,
    filtered              bigint not null,
    ignored               bigint not null,
    dead                  bigint not null,
    confirmed             bigint not null,
    healed                bigint not null,
    last_lsn              bigint,
    last_commit_timestamp timestamp with time zone,
    last_change_at        timestamp with time zone,
    last_applied_at       timestamp with time zone not null,
    primary key (mapping, slot)
) with (fillfactor = 25);
comment on table sequin.counter is 'Outcomes of the messages of each mapping, per backend slot; sequin.status adds them up';
comment on column sequin.counter.mapping is 'sequin.mapping.id';
comment on column sequin.counter.slot is 'Number of a live backend, so that two backends never write the same row';
comment on column sequin.counter.calls is 'Calls with messages for the mapping';
comment on column sequin.counter.received is 'Messages; each counts in one of the outcomes that follow';
comment on column sequin.counter.upserted is 'Messages that decided a row that exists now';
comment on column sequin.counter.deleted is 'Messages that deleted a row, or found no row to delete';
comment on column sequin.counter.collapsed is 'Messages followed by a newer change of the same row in the same batch';
comment on column sequin.counter.stale is 'Messages older than the change applied before, or received again';
comment on column sequin.counter.filtered is 'Messages that the filter rejected, without a row to delete';
comment on column sequin.counter.ignored is 'Messages that are not written because the destination is null or on_delete is ignore';
comment on column sequin.counter.dead is 'Messages that became dead letters';
comment on column sequin.counter.confirmed is 'Rows that messages have confirmed in resyncs';
comment on column sequin.counter.healed is 'Dead letters that calls have retried and that are gone: applied, or void because a newer change was applied';
comment on column sequin.counter.last_lsn is 'commit_lsn of the newest change by commit_timestamp, without reads and dead letters';
comment on column sequin.counter.last_commit_timestamp is 'commit_timestamp of that change';
comment on column sequin.counter.last_change_at is 'When that change was applied';
comment on column sequin.counter.last_applied_at is 'When the last call with messages for the mapping ended';
revoke all on sequin.counter from public;
select pg_catalog.pg_extension_config_dump('sequin.counter', '');

create function sequin_internal.counter_removed() returns trigger
    language c security definer as 'MODULE_PATHNAME', 'counter_removed_wrapper'
    set search_path = pg_catalog, pg_temp;
comment on function sequin_internal.counter_removed() is 'Removes the counters of a removed mapping';
revoke all on function sequin_internal.counter_removed() from public;
create trigger counter_removed after delete on sequin.mapping
    for each row execute function sequin_internal.counter_removed();
alter table sequin.mapping enable always trigger counter_removed;

-- The keys of the records of each table that a mapping takes, as the first of them had them, and how they have
-- changed since. Reads and changes are apart: only reads have generated columns.
create table sequin.record_key (
    mapping      integer not null,
    source       text not null,
    backfill     boolean not null,
    key          text not null,
    drift        text,
    committed_at timestamp with time zone,
    since        timestamp with time zone not null default pg_catalog.clock_timestamp(),
    taken        boolean,
    primary key (mapping, source, backfill, key)
);
comment on table sequin.record_key is 'Keys of the records that mappings take: sequin.status shows which drift';
comment on column sequin.record_key.mapping is 'sequin.mapping.id';
comment on column sequin.record_key.source is 'Source table of the records';
comment on column sequin.record_key.backfill is 'Whether the records are those of backfill reads';
comment on column sequin.record_key.key is 'Key of the records, or key that a column of the mapping is read from';
comment on column sequin.record_key.drift is 'not_taken: the records have the key since then, and no column takes it; lacking: they lack it since then, and a column is read from it; suspected: the same, but no new key came with it; accepted: they lack it, and that is right, since sequin.accept_drift or since no column is read from it; null: all is as it should be';
comment on column sequin.record_key.committed_at is 'commit_timestamp of the message that showed it';
comment on column sequin.record_key.since is 'When a call found it';
comment on column sequin.record_key.taken is 'Whether a column of the destination took the key then';
revoke all on sequin.record_key from public;
select pg_catalog.pg_extension_config_dump('sequin.record_key', '');

create function sequin_internal.record_keys_removed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from sequin.record_key where mapping = old.id;
    return null;
end $$;
comment on function sequin_internal.record_keys_removed() is 'Forgets the keys of a mapping''s records when the mapping is removed, or gets another source or destination';
revoke all on function sequin_internal.record_keys_removed() from public;
create trigger record_keys_removed after delete on sequin.mapping
    for each row execute function sequin_internal.record_keys_removed();
alter table sequin.mapping enable always trigger record_keys_removed;
create trigger record_keys_moved after update of source, destination on sequin.mapping
    for each row when (old.source operator(pg_catalog.<>) new.source
                       or coalesce(old.destination::pg_catalog.oid, 0::pg_catalog.oid)
                           operator(pg_catalog.<>) coalesce(new.destination::pg_catalog.oid, 0::pg_catalog.oid))
    execute function sequin_internal.record_keys_removed();
alter table sequin.mapping enable always trigger record_keys_moved;

-- For sequin.status, which counts the rows with a value that has not arrived yet. Such rows are few.
create index row_version_unknown on sequin.row_version (mapping)
    where (gaps operator(pg_catalog.@?) 'strict $.* ? (@ == null)'::pg_catalog.jsonpath
        or gaps operator(pg_catalog.@?) 'strict $.* ? (@.type() == "object").* ? (@ == null)'::pg_catalog.jsonpath);

-- The views read with their owner's rights. A caller sees the mappings whose owner's rights the caller has. A
-- role that may read all statistics (a superuser, a member of pg_monitor) sees all mappings.
create view sequin.status with (security_barrier) as
select m.name, m.source, m.destination, m.owner,
       case when not m.enabled then 'paused'
            when b.sqlstate is not null then 'broken'
            when s.mapping is not null then 'resyncing'
            else 'running' end as state,
       case when m.destination is null then null
            when m.mode operator(pg_catalog.=) 'append'::pg_catalog.text then 'off'
            when m.guard operator(pg_catalog.<>) 'auto'::pg_catalog.text then m.guard
            when sequin_internal.has_guard_columns(m.destination) then 'columns'
            else 'table' end as guard,
       c.calls, c.received, c.upserted, c.deleted, c.collapsed, c.stale, c.filtered, c.ignored, c.dead, c.healed,
       n.last_lsn, n.last_commit_timestamp,
       n.last_change_at operator(pg_catalog.-) n.last_commit_timestamp as lag,
       c.last_applied_at,
       (select pg_catalog.count(*) from sequin.dead_letter d
        where d.mapping operator(pg_catalog.=) m.name and d.state operator(pg_catalog.=) 'dead'::pg_catalog.text) as dead_letters_dead,
       (select pg_catalog.count(*) from sequin.dead_letter d
        where d.mapping operator(pg_catalog.=) m.name and d.state operator(pg_catalog.=) 'waiting'::pg_catalog.text) as dead_letters_waiting,
       (select pg_catalog.count(*) from sequin.dead_letter d
        where d.mapping operator(pg_catalog.=) m.name and d.state operator(pg_catalog.=) 'paused'::pg_catalog.text) as dead_letters_paused,
       (select pg_catalog.count(*) from sequin.dead_letter d
        where d.mapping operator(pg_catalog.=) m.name and d.state operator(pg_catalog.=) 'waiting'::pg_catalog.text
          and not exists (select 
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where w.destination::pg_catalog.oid operator(pg_catalog.=) d.waits_on::pg_catalog.oid
           and p.state operator(pg_catalog.=) 'waiting'::pg_catalog.text and p.row_key is not null
           and pg_catalog.sha256(p.row_key) operator(pg_catalog.=) d.waits_for and p.id operator(pg_catalog.<>) d.id)
          and not exists (select 
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where w.destination::pg_catalog.oid operator(pg_catalog.=) d.waits_on::pg_catalog.oid
           and p.state operator(pg_catalog.<>) 'waiting'::pg_catalog.text and p.row_key is not null
           and pg_catalog.sha256(p.row_key) operator(pg_catalog.=) d.waits_for and p.id operator(pg_catalog.<>) d.id)
          and not exists (select 
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where w.destination::pg_catalog.oid operator(pg_catalog.=) d.waits_on::pg_catalog.oid
           and p.state operator(pg_catalog.=) 'waiting'::pg_catalog.text and p.brings is not null
           and p.brings operator(pg_catalog.@>) array[d.waits_for] and p.id operator(pg_catalog.<>) d.id)
          and not exists (select 
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where d.waits_or is not null and w.destination::pg_catalog.oid operator(pg_catalog.=) m.destination::pg_catalog.oid
           and p.state operator(pg_catalog.=) 'waiting'::pg_catalog.text and p.brings is not null
           and p.brings operator(pg_catalog.@>) array[d.waits_or] and p.id operator(pg_catalog.<>) d.id)) as waiting_roots,
       (select (t.reltuples operator(pg_catalog.*) v.stanumbers1[pg_catalog.array_position(
                    v.stavalues1::pg_catalog.text::pg_catalog.int4[], m.id)])::pg_catalog.int8
        from pg_catalog.pg_class t
        join pg_catalog.pg_statistic v on v.starelid operator(pg_catalog.=) t.oid and v.staattnum operator(pg_catalog.=) 1::pg_catalog.int2 and v.stakind1 operator(pg_catalog.=) 1::pg_catalog.int2
        where t.oid operator(pg_catalog.=) 'sequin.row_version'::pg_catalog.regclass::pg_catalog.oid) as row_versions_estimate,
       (select pg_catalog.count(*) from sequin.row_version v
        where v.mapping operator(pg_catalog.=) m.id and (v.gaps operator(pg_catalog.@?) 'strict $.* ? (@ == null)'::pg_catalog.jsonpath
        or v.gaps operator(pg_catalog.@?) 'strict $.* ? (@.type() == "object").* ? (@ == null)'::pg_catalog.jsonpath)) as unknown_values,
       s.started_at as resync_started_at,
       c.confirmed operator(pg_catalog.-) s.confirmed_before as resync_confirmed,
       case when s.mapping is not null then (
           with recursive part(oid) as (
               select m.destination::pg_catalog.oid
               union all
               select i.inhrelid from part p join pg_catalog.pg_inherits i on i.inhparent operator(pg_catalog.=) p.oid)
           select pg_catalog.sum(r.reltuples)::pg_catalog.int8 from part p
           join pg_catalog.pg_class r on r.oid operator(pg_catalog.=) p.oid
           where r.relkind operator(pg_catalog.=) 'r'::pg_catalog."char"
             and r.reltuples operator(pg_catalog.>=) 0::pg_catalog.float4) end as resync_rows_estimate,
       s.first_read_at as resync_first_read_at,
       b.error as broken_reason,
       k.since as broken_since,
       b.hint as broken_hint,
       (select pg_catalog.array_agg(l.name order by l.name) from sequin.lacking_column l
        where l.mapping operator(pg_catalog.=) m.id and l.by_read) as stale_columns,
       (select pg_catalog.jsonb_object_agg(f.drift, f.keys)
        from (select k.drift, pg_catalog.jsonb_agg(distinct r.key) as keys
              from sequin.record_key r
              cross join lateral (
                  select case r.drift when 'suspected' then 'lacking' else r.drift end as drift) k
              where r.mapping operator(pg_catalog.=) m.id
                and k.drift operator(pg_catalog.=) any (array['not_taken', 'lacking']::pg_catalog.text[])
              group by k.drift) f) as drift,
       b.sqlstate, b.error, b.hint
from sequin.mapping m
left join sequin.resync s on s.mapping operator(pg_catalog.=) m.id
left join sequin.broken_mapping k on k.mapping operator(pg_catalog.=) m.id
cross join lateral (
    select m.destination is not null
           and not exists (select from pg_catalog.pg_class r
                           where r.oid operator(pg_catalog.=) m.destination::pg_catalog.oid) as gone) d
cross join lateral (
    select not exists (select from pg_catalog.pg_roles r
                       where r.oid operator(pg_catalog.=) m.owner::pg_catalog.oid) as gone) o
left join lateral (
    select pg_catalog.concat_ws(' and ', 'USAGE on schema ' operator(pg_catalog.||) w.schema,
                                w.privileges operator(pg_catalog.||) ' on the destination') as lacking,
           pg_catalog.concat_ws(' ', pg_catalog.format('GRANT USAGE ON SCHEMA %s TO %s;', w.schema, m.owner)
                                         operator(pg_catalog.||) pg_catalog.left(w.schema, 0),
                                pg_catalog.format('GRANT %s ON %s TO %s;', w.privileges, w.relation, m.owner)
                                         operator(pg_catalog.||) pg_catalog.left(w.privileges, 0)) as statement
    from (
        select pg_catalog.format('%I.%I', n.nspname, t.relname) as relation,
               case when not pg_catalog.has_schema_privilege(m.owner::pg_catalog.oid, n.oid, 'USAGE')
                    then pg_catalog.quote_ident(n.nspname) end as schema,
               (select pg_catalog.string_agg(g.privilege, ', ' order by g.n)
                from (values
                    (1, 'SELECT', m.mode operator(pg_catalog.=) 'upsert'::pg_catalog.text
                         and not pg_catalog.has_any_column_privilege(m.owner::pg_catalog.oid, t.oid, 'SELECT')),
                    (2, 'INSERT', not pg_catalog.has_any_column_privilege(m.owner::pg_catalog.oid, t.oid, 'INSERT')),
                    (3, 'UPDATE', m.mode operator(pg_catalog.=) 'upsert'::pg_catalog.text
                         and not pg_catalog.has_any_column_privilege(m.owner::pg_catalog.oid, t.oid, 'UPDATE')),
                    (4, 'DELETE', m.mode operator(pg_catalog.=) 'upsert'::pg_catalog.text
                         and m.on_delete operator(pg_catalog.=) 'delete'::pg_catalog.text
                         and not pg_catalog.has_table_privilege(m.owner::pg_catalog.oid, t.oid, 'DELETE'))
                ) g(n, privilege, missing)
                where g.missing) as privileges
        from pg_catalog.pg_class t
        join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) t.relnamespace
        where t.oid operator(pg_catalog.=) m.destination::pg_catalog.oid and not o.gone
        offset 0) w
    where w.schema is not null or w.privileges is not null) p on true
-- What a call found comes first: it knows more than the conditions here.
cross join lateral (
    select coalesce(k.sqlstate, case when d.gone then '42P01' when o.gone then '42704'
                                     when p.lacking is not null then '42501' end) as sqlstate,
           coalesce(k.reason, case when d.gone then 'the destination does not exist'
                                   when o.gone then 'the owner does not exist'
                                   when p.lacking is not null
                                   then 'the owner lacks ' operator(pg_catalog.||) p.lacking end) as error,
           case when k.hint is not null then k.hint
                when d.gone then pg_catalog.format('If there is a table in its place, run: SELECT sequin.alter_mapping(%1$L, destination => ''schema.table''); to remove the mapping, run: SELECT sequin.unmap(%1$L);', m.name)
                when o.gone then pg_catalog.format('Give the mapping to another role: UPDATE sequin.mapping SET owner = ''role_name'' WHERE name = %L;', m.name)
                when p.lacking is not null then 'Run: ' operator(pg_catalog.||) p.statement end as hint) b
cross join lateral (
    select coalesce(pg_catalog.sum(c.calls), 0::pg_catalog.numeric)::pg_catalog.int8 as calls,
           coalesce(pg_catalog.sum(c.received), 0::pg_catalog.numeric)::pg_catalog.int8 as received,
           coalesce(pg_catalog.sum(c.upserted), 0::pg_catalog.numeric)::pg_catalog.int8 as upserted,
           coalesce(pg_catalog.sum(c.deleted), 0::pg_catalog.numeric)::pg_catalog.int8 as deleted,
           coalesce(pg_catalog.sum(c.collapsed), 0::pg_catalog.numeric)::pg_catalog.int8 as collapsed,
           coalesce(pg_catalog.sum(c.stale), 0::pg_catalog.numeric)::pg_catalog.int8 as stale,
           coalesce(pg_catalog.sum(c.filtered), 0::pg_catalog.numeric)::pg_catalog.int8 as filtered,
           coalesce(pg_catalog.sum(c.ignored), 0::pg_catalog.numeric)::pg_catalog.int8 as ignored,
           coalesce(pg_catalog.sum(c.dead), 0::pg_catalog.numeric)::pg_catalog.int8 as dead,
           coalesce(pg_catalog.sum(c.confirmed), 0::pg_catalog.numeric)::pg_catalog.int8 as confirmed,
           coalesce(pg_catalog.sum(c.healed), 0::pg_catalog.numeric)::pg_catalog.int8 as healed,
           pg_catalog.max(c.last_applied_at) as last_applied_at
    from sequin.counter c where c.mapping operator(pg_catalog.=) m.id) c
left join lateral (
    select n.last_lsn, n.last_commit_timestamp, n.last_change_at
    from sequin.counter n where n.mapping operator(pg_catalog.=) m.id and n.last_change_at is not null
    order by n.last_commit_timestamp desc nulls last, n.last_lsn desc nulls last limit 1) n on true
where pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE')
   or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text);
comment on view sequin.status is 'A row for each mapping that the role may see: its state, the outcomes of its messages, and its lag';
comment on column sequin.status.name is 'Name of the mapping';
comment on column sequin.status.source is 'Messages that the mapping takes';
comment on column sequin.status.destination is 'Table that the mapping writes; null if it ignores its messages';
comment on column sequin.status.owner is 'Role that writes the rows';
comment on column sequin.status.state is 'running; paused: enabled is false, and calls with its messages fail or the messages are kept; broken: the mapping cannot write anything (see broken_reason), and its messages wait; resyncing: running, during a resync';
comment on column sequin.status.guard is 'Where the versions of rows are kept: columns, table or off; null without a destination';
comment on column sequin.status.calls is 'Calls with messages for the mapping';
comment on column sequin.status.received is 'Messages that the mapping took; each counts in one of the columns that follow';
comment on column sequin.status.upserted is 'Messages that decided a row that exists now';
comment on column sequin.status.deleted is 'Messages that deleted a row, or found no row to delete';
comment on column sequin.status.collapsed is 'Messages followed by a newer change of the same row in the same batch';
comment on column sequin.status.stale is 'Messages older than the change applied before, or received again';
comment on column sequin.status.filtered is 'Messages that the filter rejected, without a row to delete';
comment on column sequin.status.ignored is 'Messages that are not written because the destination is null or on_delete is ignore';
comment on column sequin.status.dead is 'Messages that became dead letters';
comment on column sequin.status.healed is 'Dead letters that were retried and are gone: applied, or void because a newer change was applied; received and the outcomes count a message when it arrives, and when sequin.retry or sequin.retry_all tries it again';
comment on column sequin.status.last_lsn is 'commit_lsn of the newest change applied, without backfill reads';
comment on column sequin.status.last_commit_timestamp is 'commit_timestamp of the newest change applied, without backfill reads';
comment on column sequin.status.lag is 'Time from the commit of that change to its application; null if there is no such change';
comment on column sequin.status.last_applied_at is 'When a call last had messages for the mapping';
comment on column sequin.status.dead_letters_dead is 'Dead letters that need intervention';
comment on column sequin.status.dead_letters_waiting is 'Dead letters that wait, and are retried automatically';
comment on column sequin.status.row_versions_estimate is 'Entries of sequin.row_version, as of the last analyze of that table; sequin.versions counts them';
comment on column sequin.status.unknown_values is 'Rows with a column whose value has not arrived yet';
comment on column sequin.status.resync_started_at is 'When the resync under way began';
comment on column sequin.status.resync_confirmed is 'Rows confirmed since then';
comment on column sequin.status.resync_rows_estimate is 'Rows of the destination, as of its last vacuum or analyze, of which the resync has to confirm those that the source has; null if it was never analyzed';
comment on column sequin.status.resync_first_read_at is 'When the first read since then arrived; null if the backfill has not begun';

comment on column sequin.status.broken_reason is 'Why the mapping is broken';
comment on column sequin.status.broken_hint is 'What to do about it, with the statement to run';
comment on column sequin.status.stale_columns is 'Columns that only reads bring, as generated columns of the source: changes leave them as they are; null if there are none';
comment on column sequin.status.broken_since is 'When a call found the fault';

comment on column sequin.status.sqlstate is 'SQLSTATE of the error for which the mapping is broken; null if it is not';
comment on column sequin.status.error is 'That error, as in broken_reason';
comment on column sequin.status.hint is 'What to run, as in broken_hint; sequin.check() looks again';
comment on column sequin.status.drift is 'Keys that came and that no column takes (not_taken), and keys that went though a column is read from them (lacking): after a column was renamed at the source, say; null if there are none';

create view sequin.versions with (security_barrier) as
select m.name, v.row_versions, v.tombstones, v.gaps, v.unknown_values
from sequin.mapping m
cross join lateral (
    select pg_catalog.count(*) as row_versions,
           pg_catalog.count(*) filter (where r.deleted) as tombstones,
           pg_catalog.count(r.gaps) as gaps,
           pg_catalog.count(*) filter (where (r.gaps operator(pg_catalog.@?) 'strict $.* ? (@ == null)'::pg_catalog.jsonpath
        or r.gaps operator(pg_catalog.@?) 'strict $.* ? (@.type() == "object").* ? (@ == null)'::pg_catalog.jsonpath)) as unknown_values
    from sequin.row_version r where r.mapping operator(pg_catalog.=) m.id) v
where pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE')
   or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text);
comment on view sequin.versions is 'Contents of sequin.row_version for each mapping, counted row by row: on a large table, ask for one mapping';
comment on column sequin.versions.name is 'Name of the mapping';
comment on column sequin.versions.row_versions is 'Entries of the mapping';
comment on column sequin.versions.tombstones is 'Entries of deleted rows';
comment on column sequin.versions.gaps is 'Entries of rows with a column whose value is older than the row';
comment on column sequin.versions.unknown_values is 'Entries of rows with a column whose value has not arrived yet';

comment on column sequin.status.dead_letters_paused is 'Dead letters that were kept while the mapping was paused';
comment on column sequin.status.waiting_roots is 'Waiting dead letters whose awaited row or value is not in another dead letter: when it arrives, the others follow. Letters that wait for each other in a circle have no root';

-- The column behind costs a look-up for each letter that waits behind, a thousand at most.
create view sequin.waiting with (security_barrier) as
select d.id as letter, d.mapping,
       case when own.yes then d.key end as key,
       d.received_at as since, d.last_attempt_at, d.attempts, d.sqlstate,
       case when own.yes then d.error end as error,
       case when own.yes then d.detail end as detail,
       case when own.yes then d.hint end as hint,
       d.waits_on,
       case when own.yes then d.waits_for_key end as waits_for,
       awaited.letter as waits_for_letter,
       (with recursive behind as (
            select d.id, m.destination::pg_catalog.oid as relation,
                   pg_catalog.array_prepend(pg_catalog.sha256(d.row_key), d.brings) as brings
            union
            select n.id, n.relation, n.brings
            from behind b
            cross join lateral (
                select l.id, w.destination::pg_catalog.oid as relation,
                       pg_catalog.array_prepend(pg_catalog.sha256(l.row_key), l.brings) as brings
                from sequin.dead_letter l join sequin.mapping w on w.name operator(pg_catalog.=) l.mapping
                where l.state operator(pg_catalog.=) 'waiting'::pg_catalog.text
                  and l.waits_on::pg_catalog.oid operator(pg_catalog.=) b.relation
                  and l.waits_for operator(pg_catalog.=) any (b.brings)) n)
        select pg_catalog.count(*) operator(pg_catalog.-) 1::pg_catalog.int8
        from (select from behind limit 1001) c) as behind
from sequin.dead_letter d
join sequin.mapping m on m.name operator(pg_catalog.=) d.mapping
cross join lateral (select pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) as yes) own
cross join lateral (
    select coalesce(
           (select p.id
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where w.destination::pg_catalog.oid operator(pg_catalog.=) d.waits_on::pg_catalog.oid
           and p.state operator(pg_catalog.=) 'waiting'::pg_catalog.text and p.row_key is not null
           and pg_catalog.sha256(p.row_key) operator(pg_catalog.=) d.waits_for and p.id operator(pg_catalog.<>) d.id limit 1),
           (select p.id
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where w.destination::pg_catalog.oid operator(pg_catalog.=) d.waits_on::pg_catalog.oid
           and p.state operator(pg_catalog.<>) 'waiting'::pg_catalog.text and p.row_key is not null
           and pg_catalog.sha256(p.row_key) operator(pg_catalog.=) d.waits_for and p.id operator(pg_catalog.<>) d.id limit 1),
           (select p.id
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where w.destination::pg_catalog.oid operator(pg_catalog.=) d.waits_on::pg_catalog.oid
           and p.state operator(pg_catalog.=) 'waiting'::pg_catalog.text and p.brings is not null
           and p.brings operator(pg_catalog.@>) array[d.waits_for] and p.id operator(pg_catalog.<>) d.id limit 1),
           (select p.id
         from sequin.mapping w join sequin.dead_letter p on p.mapping operator(pg_catalog.=) w.name
         where d.waits_or is not null and w.destination::pg_catalog.oid operator(pg_catalog.=) m.destination::pg_catalog.oid
           and p.state operator(pg_catalog.=) 'waiting'::pg_catalog.text and p.brings is not null
           and p.brings operator(pg_catalog.@>) array[d.waits_or] and p.id operator(pg_catalog.<>) d.id limit 1)) as letter) awaited
where d.state operator(pg_catalog.=) 'waiting'::pg_catalog.text
  and (own.yes or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text));
comment on view sequin.waiting is 'Waiting dead letters of your mappings, and what each waits for; members of pg_monitor see all, without contents';
comment on column sequin.waiting.letter is 'sequin.dead_letter.id';
comment on column sequin.waiting.mapping is 'Name of the mapping';
comment on column sequin.waiting.key is 'JSON array of the values of the key of the row, if known';
comment on column sequin.waiting.since is 'When the message was received';
comment on column sequin.waiting.last_attempt_at is 'When the last attempt was made';
comment on column sequin.waiting.attempts is 'Number of attempts';
comment on column sequin.waiting.sqlstate is 'SQLSTATE of the last attempt';
comment on column sequin.waiting.error is 'Error message of the last attempt';
comment on column sequin.waiting.detail is 'DETAIL of that error';
comment on column sequin.waiting.hint is 'HINT of that error: which row blocks the message through which constraint, and what helps';
comment on column sequin.waiting.waits_on is 'Table of the awaited row; null if not known';
comment on column sequin.waiting.waits_for is 'Key of the awaited row, or the awaited value that a foreign key refers to, as (column)=(value); null if any row may end the wait, or if sequin.dead_letter.waits_for_key is null';
comment on column sequin.waiting.waits_for_letter is 'Dead letter that has the awaited row or value; null if there is none: the message has not arrived';
comment on column sequin.waiting.behind is 'How many dead letters wait for the row of this one, directly or through others; counted up to 1000';
