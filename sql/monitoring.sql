-- What an operator watches: calls that failed, calls under way, dead letters in groups, and sizes. None of the
-- views shows what is in a message, but for the errors of one's own calls.

-- Failed calls leave nothing else behind. A background worker writes the rows.
create table sequin.failed_call (
    sqlstate text not null,
    retried  boolean not null,
    role     oid not null,
    error    text not null,
    calls    bigint not null,
    first_at timestamp with time zone not null,
    last_at  timestamp with time zone not null,
    primary key (sqlstate, retried, role)
);
comment on table sequin.failed_call is 'Failed calls: see sequin.failed_calls. Delete its rows when they are of no interest any more';
comment on column sequin.failed_call.sqlstate is 'SQLSTATE of the error';
comment on column sequin.failed_call.retried is 'Whether the call was tried again within itself, as after a deadlock, and did not fail by this error';
comment on column sequin.failed_call.role is 'OID of the role that called';
comment on column sequin.failed_call.error is 'Beginning of the last error message';
comment on column sequin.failed_call.calls is 'Number of calls';
comment on column sequin.failed_call.first_at is 'When the first of them was noted';
comment on column sequin.failed_call.last_at is 'When the last of them was noted';
revoke all on sequin.failed_call from public;

create view sequin.failed_calls with (security_barrier) as
select coalesce(r.rolname::pg_catalog.text, f.role::pg_catalog.text) as role, f.sqlstate,
       case when f.retried then 'retried' else 'failed' end as outcome, f.calls, f.first_at, f.last_at,
       case when own.yes then f.error end as error
from sequin.failed_call f
left join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) f.role
cross join lateral (
    select case when r.oid is null then pg_catalog.pg_has_role(e.extowner, 'USAGE'::pg_catalog.text)
           else pg_catalog.pg_has_role(r.oid, 'USAGE'::pg_catalog.text)
             or pg_catalog.pg_has_role(e.extowner, 'USAGE'::pg_catalog.text) end as yes
    from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'pg_sequin'::pg_catalog.name) own
where own.yes or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text);
comment on view sequin.failed_calls is 'Calls that failed and left nothing behind, by SQLSTATE and role; your own, and all for members of pg_monitor, without the messages';
comment on column sequin.failed_calls.role is 'Role that called';
comment on column sequin.failed_calls.sqlstate is 'SQLSTATE of the error';
comment on column sequin.failed_calls.outcome is 'failed: the call raised the error and wrote nothing; retried: the call began again, as after a deadlock';
comment on column sequin.failed_calls.calls is 'Number of calls; some seconds late';
comment on column sequin.failed_calls.first_at is 'When the first of them was noted';
comment on column sequin.failed_calls.last_at is 'When the last of them was noted';
comment on column sequin.failed_calls.error is 'Beginning of the last error message; the server''s log has the rest';

-- Calls hold locks on their mappings, by which the view finds them.
create view sequin.activity with (security_barrier) as
select a.pid, a.usename::pg_catalog.text as role, a.application_name, a.client_addr,
       case when a.state operator(pg_catalog.~~) 'idle in transaction%'::pg_catalog.text then 'idle in transaction'
            when h.waits_for is not null or a.wait_event_type operator(pg_catalog.=) 'Lock'::pg_catalog.text then 'waiting'
            else 'applying' end as state,
       h.mappings, h.exclusive,
       case when h.waits_for is not null then 'mapping ' operator(pg_catalog.||) h.waits_for
            when a.wait_event_type is not null then a.wait_event_type operator(pg_catalog.||) ': '
                operator(pg_catalog.||) a.wait_event end as waits_for,
       pg_catalog.pg_blocking_pids(a.pid) as blocked_by,
       a.query_start as call_started_at, a.xact_start as transaction_started_at
from (
    select l.pid,
           pg_catalog.array_agg(distinct m.name) filter (where l.granted) as mappings,
           coalesce(pg_catalog.bool_or(l.granted and l.mode operator(pg_catalog.=) 'ExclusiveLock'::pg_catalog.text), false)
               as exclusive,
           pg_catalog.min(m.name) filter (where not l.granted) as waits_for
    from pg_catalog.pg_locks l
    join sequin.mapping m on m.id operator(pg_catalog.=) l.objid::pg_catalog.int8::pg_catalog.int4
    where l.locktype operator(pg_catalog.=) 'object'::pg_catalog.text and l.objsubid operator(pg_catalog.=) 0::pg_catalog.int2
      and l.classid operator(pg_catalog.=) 'sequin.mapping'::pg_catalog.regclass::pg_catalog.oid
      and l.database operator(pg_catalog.=) (select d.oid from pg_catalog.pg_database d
                                             where d.datname operator(pg_catalog.=) pg_catalog.current_database())
    group by l.pid) h
join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) h.pid
where pg_catalog.pg_has_role(a.usesysid, 'USAGE'::pg_catalog.text)
   or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text);
comment on view sequin.activity is 'Sessions that hold or await locks on mappings: calls under way, and transactions that have called and are still open; your own, and all for members of pg_monitor';
comment on column sequin.activity.pid is 'Session, as pg_cancel_backend and pg_terminate_backend take it';
comment on column sequin.activity.role is 'Role of the session';
comment on column sequin.activity.application_name is 'application_name of the session';
comment on column sequin.activity.client_addr is 'Address of the client; null: a unix socket';
comment on column sequin.activity.state is 'applying; waiting: for a lock; idle in transaction: the call has ended, but its transaction holds its locks';
comment on column sequin.activity.mappings is 'Mappings that the session holds locks on';
comment on column sequin.activity.exclusive is 'Whether other calls must wait for one of these locks';
comment on column sequin.activity.waits_for is 'Mapping whose lock it awaits, or else the wait event of pg_stat_activity';
comment on column sequin.activity.blocked_by is 'Sessions that hold what it waits for';
comment on column sequin.activity.call_started_at is 'When the current or last statement began';
comment on column sequin.activity.transaction_started_at is 'When the transaction began';

create view sequin.letters with (security_barrier) as
select d.mapping, d.state, d.sqlstate, pg_catalog.count(*) as letters,
       pg_catalog.min(d.received_at) as oldest, pg_catalog.max(d.received_at) as newest,
       pg_catalog.sum(pg_catalog.pg_column_size(d.message))::pg_catalog.int8 as bytes
from sequin.dead_letter d
left join sequin.mapping m on m.name operator(pg_catalog.=) d.mapping
where pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text)
   or case when m.name is null
           then (select pg_catalog.pg_has_role(e.extowner, 'USAGE'::pg_catalog.text)
                 from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'pg_sequin'::pg_catalog.name)
           else pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text) end
group by d.mapping, d.state, d.sqlstate;
comment on view sequin.letters is 'Dead letters by mapping, state and SQLSTATE: those of your mappings, and all for members of pg_monitor';
comment on column sequin.letters.mapping is 'Name of the mapping; null: no mapping took the message';
comment on column sequin.letters.state is 'As in sequin.dead_letter';
comment on column sequin.letters.sqlstate is 'SQLSTATE of the last attempt';
comment on column sequin.letters.letters is 'Number of dead letters';
comment on column sequin.letters.oldest is 'When the oldest of them was received';
comment on column sequin.letters.newest is 'When the newest of them was received';
comment on column sequin.letters.bytes is 'Bytes of their messages, compressed as they are stored';

create view sequin.storage with (security_barrier) as
select c.relname::pg_catalog.text as relation, pg_catalog.pg_total_relation_size(c.oid::pg_catalog.regclass) as bytes,
       c.reltuples::pg_catalog.int8 as rows_estimate,
       case when c.relname operator(pg_catalog.=) 'tombstone'::pg_catalog.name then (
           select pg_catalog.count(*)
           from (select from sequin.tombstone t
                 where t.made_at operator(pg_catalog.<) (pg_catalog.statement_timestamp() operator(pg_catalog.-) coalesce(
                     pg_catalog.current_setting('sequin.tombstone_retention', true)::pg_catalog.interval,
                     '7 days'::pg_catalog.interval))
                 limit 1000000) due) end as due
from pg_catalog.pg_class c
where c.relnamespace operator(pg_catalog.=) 'sequin'::pg_catalog.regnamespace::pg_catalog.oid
  and c.relkind operator(pg_catalog.=) 'r'::pg_catalog."char"
  and (pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text)
       or pg_catalog.pg_has_role(c.relowner, 'USAGE'::pg_catalog.text));
comment on view sequin.storage is 'Sizes of the tables of the extension, for members of pg_monitor';
comment on column sequin.storage.relation is 'Table in schema sequin';
comment on column sequin.storage.bytes is 'Bytes on disk, with indexes';
comment on column sequin.storage.rows_estimate is 'Rows, as of the last analyze or vacuum; -1: there was none';
comment on column sequin.storage.due is 'Tombstones that are due to be pruned, counted up to a million';
