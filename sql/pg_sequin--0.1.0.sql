set local search_path = pg_catalog, pg_temp;

-- The catalog: mappings, dead letters, and the functions that make and remove mappings.
--
-- A role that makes mappings needs EXECUTE on the functions, and a grant of the source:
--     grant execute on function sequin.map, sequin.unmap, sequin.alter_mapping to alice;
--     select sequin.grant_source('public.*', 'alice');
-- The views own_mapping and own_dead_letter then show Alice her own mappings and letters. If she is given
-- privileges on the tables, row security leaves her the same rows. They are written as Alice. She therefore needs
-- privileges on her destinations, and a mapping never gives her more rights than she has.

create schema sequin;
comment on schema sequin is 'pg_sequin: mappings, dead letters and the state of replication';
grant usage on schema sequin to public;

-- Functions that the extension calls, and nobody else.
create schema sequin_internal;
comment on schema sequin_internal is 'pg_sequin: functions that the extension itself calls';
grant usage on schema sequin_internal to public;

-- Refuses a database whose encoding is not UTF-8: other encodings cannot hold every text that Sequin sends.
create function sequin_internal.require_utf8() returns void
    language c as 'MODULE_PATHNAME', 'require_utf8_wrapper';
select sequin_internal.require_utf8();
drop function sequin_internal.require_utf8();

create table sequin.mapping (
    id          integer generated always as identity primary key,
    name        text not null unique,
    source      text not null,
    destination regclass,
    columns     jsonb,
    key         text[],
    filter      text,
    mode        text not null default 'upsert',
    on_delete   text not null default 'delete',
    soft_delete text,
    on_error    text not null default 'dead_letter',
    guard       text not null default 'auto',
    enabled     boolean not null default true,
    owner       regrole not null,
    search_path text not null,
    created_at  timestamp with time zone not null default pg_catalog.now()
);
create index mapping_destination on sequin.mapping (destination);
comment on table sequin.mapping is 'Which messages are written to which table, and how. Every change is checked; all sessions see it at their next call. To let a role make mappings, grant it EXECUTE on sequin.map, and sources by sequin.grant_source.';
comment on column sequin.mapping.id is 'Identifies the mapping in row versions and counters';
comment on column sequin.mapping.name is 'Unique name; made from source and destination if not given';
comment on column sequin.mapping.source is 'Messages to take: [database.]schema.table, each part exact or with the wildcard *; a part in double quotes is literal';
comment on column sequin.mapping.destination is 'Table to write the messages to; null to receive and ignore them';
comment on column sequin.mapping.columns is 'JSON object of destination column: path, {"sql": expression} or {"value": constant}; "*": "record.*" takes all other columns; null means {"*": "record.*"}';
comment on column sequin.mapping.key is 'Columns that identify a row; a unique index on exactly these columns must exist; null means the primary key';
comment on column sequin.mapping.filter is 'SQL condition over record, changes, metadata (jsonb) and action (text); a row that no longer satisfies it is deleted';
comment on column sequin.mapping.mode is 'upsert: a message changes the row with its key; append: every message becomes a row';
comment on column sequin.mapping.on_delete is 'Effect of a delete: delete, ignore, or soft (mark the row in the column soft_delete)';
comment on column sequin.mapping.soft_delete is 'Column that marks deleted rows under on_delete soft: timestamptz, timestamp or boolean';
comment on column sequin.mapping.on_error is 'Effect of a message that cannot be written: dead_letter (it is stored, the others are written) or raise (the call fails)';
comment on column sequin.mapping.guard is 'Where the versions of rows are kept, to recognise late messages: columns (sequin_lsn, sequin_idx and sequin_committed_at of the destination), table (sequin.row_version), auto (columns if they exist, else table) or off';
comment on column sequin.mapping.enabled is 'False pauses the mapping: a call with messages for it fails, and the sender tries again; with sequin.keep_paused on, the messages are kept as dead letters';
comment on column sequin.mapping.owner is 'Role that made the mapping; its rows are written as this role; only a superuser can choose another role';
comment on column sequin.mapping.search_path is 'search_path under which the SQL in columns and filter runs: the setting of the session that wrote the SQL';
comment on column sequin.mapping.created_at is 'When the mapping was made';

create table sequin.dead_letter (
    id              bigint generated always as identity primary key,
    mapping         text,
    received_at     timestamp with time zone not null default pg_catalog.now(),
    message         text not null,
    sqlstate        text not null,
    error           text not null,
    detail          text,
    hint            text,
    position        bigint not null,
    key             text,
    row_key         bytea,
    former_key      bytea,
    source          text,
    lsn             bigint,
    idx             integer,
    committed_at    timestamp with time zone,
    attempts        integer not null default 1,
    state           text not null default 'dead' check (state operator(pg_catalog.=) any (array['dead', 'waiting', 'paused']::pg_catalog.text[])),
    waits_on        regclass,
    waits_for       bytea,
    waits_or        bytea,
    waits_for_key   text,
    brings          bytea[],
    last_attempt_at timestamp with time zone not null default pg_catalog.now()
);
-- Without statistics, plans do not depend on the letters that wait at the moment. With them, 1,000 letters
-- that waited for one row made the server read all letters to find those of another row.
alter table sequin.dead_letter
    alter column mapping set statistics 0,
    alter column state set statistics 0,
    alter column row_key set statistics 0,
    alter column former_key set statistics 0,
    alter column waits_on set statistics 0,
    alter column waits_for set statistics 0,
    alter column waits_or set statistics 0,
    alter column last_attempt_at set statistics 0;
-- No index but those for one state has the state: a plan would read all letters of the state by it.
create index dead_letter_mapping on sequin.dead_letter (mapping, id);
-- To find the dead letters that a newer change of the same row supersedes.
create index dead_letter_mapping_row_key on sequin.dead_letter (mapping, row_key) where row_key is not null;
create index dead_letter_mapping_former_key on sequin.dead_letter (mapping, former_key) where former_key is not null;
-- To recognise a change that arrives again, where the key of its row is not known.
create index dead_letter_message on sequin.dead_letter (pg_catalog.hashtextextended(message, 0)) where row_key is null;
-- To find the letters of a row that other letters wait for: one index for letters that do not wait, one for
-- letters that do.
create index dead_letter_row_dead on sequin.dead_letter (mapping, (pg_catalog.sha256(row_key))) where state operator(pg_catalog.<>) 'waiting'::pg_catalog.text and row_key is not null;
create index dead_letter_row_waiting on sequin.dead_letter ((pg_catalog.sha256(row_key)), mapping) where state operator(pg_catalog.=) 'waiting'::pg_catalog.text;
-- To find the dead letters to retry: when the row that they wait for is written, and from time to time.
create index dead_letter_waiting on sequin.dead_letter (waits_on, waits_for) where state operator(pg_catalog.=) 'waiting'::pg_catalog.text;
create index dead_letter_waits_or on sequin.dead_letter (mapping, waits_or) where state operator(pg_catalog.=) 'waiting'::pg_catalog.text and waits_or is not null;
create index dead_letter_brings on sequin.dead_letter using gin (brings) where state operator(pg_catalog.=) 'waiting'::pg_catalog.text and brings is not null;
create index dead_letter_bringing on sequin.dead_letter (mapping) where state operator(pg_catalog.=) 'waiting'::pg_catalog.text and brings is not null;
create index dead_letter_due on sequin.dead_letter (last_attempt_at) where state operator(pg_catalog.=) any (array['waiting', 'paused']::pg_catalog.text[]);
-- To find the messages that were kept while a mapping was paused or broken.
create index dead_letter_kept on sequin.dead_letter (mapping, id) where state operator(pg_catalog.=) 'paused'::pg_catalog.text or state operator(pg_catalog.=) 'waiting'::pg_catalog.text and row_key is null and waits_on is null;
comment on table sequin.dead_letter is 'Messages that could not be written. sequin.retry() tries them again; sequin.discard() removes one.';
comment on column sequin.dead_letter.id is 'Identifies the dead letter for sequin.retry and sequin.discard';
comment on column sequin.dead_letter.mapping is 'Name of the mapping that could not write the message; null if no mapping took it';
comment on column sequin.dead_letter.received_at is 'When the message was received';
comment on column sequin.dead_letter.message is 'The message as it was received';
comment on column sequin.dead_letter.sqlstate is 'SQLSTATE of the last attempt';
comment on column sequin.dead_letter.error is 'Error message of the last attempt';
comment on column sequin.dead_letter.detail is 'DETAIL of that error';
comment on column sequin.dead_letter.hint is 'HINT of that error';
comment on column sequin.dead_letter.position is 'Position of the message in its batch, from 0';
comment on column sequin.dead_letter.key is 'JSON array of the values of the key, if known';
comment on column sequin.dead_letter.row_key is 'The key as bytes, as sequin.row_key returns them; null if not known';
comment on column sequin.dead_letter.former_key is 'The old key as bytes, if the message changes the key of its row; null otherwise';
comment on column sequin.dead_letter.waits_on is 'If waiting: the table of the awaited row, if known';
comment on column sequin.dead_letter.waits_for is 'If waiting: a SHA-256 hash of the key of the awaited row as bytes, its columns in the order of the table, or of an awaited value that a foreign key refers to; null if any row of the table may end the wait';
comment on column sequin.dead_letter.waits_for_key is 'If waiting: the key or value behind the hash waits_for, as (column)=(value); null if its type does not allow it, or if the mapping''s owner neither may select from the table nor has a mapping to it';
comment on column sequin.dead_letter.waits_or is 'If waiting: a hash of a value of the mapping''s own table that would also end the wait, because another row would then have the value that foreign keys refer to; null for most dead letters';
comment on column sequin.dead_letter.brings is 'If waiting: hashes, as in waits_for, of further keys and values that the dead letter brings and others may wait for: its old key, and values that foreign keys refer to';
comment on column sequin.dead_letter.source is 'Source database of the message, if known';
comment on column sequin.dead_letter.lsn is 'commit_lsn of the change; null for a read';
comment on column sequin.dead_letter.idx is 'commit_idx of the change; a negative fingerprint if the message had none; null for a read';
comment on column sequin.dead_letter.committed_at is 'commit_timestamp of the change';
comment on column sequin.dead_letter.attempts is 'Number of attempts; of a message without a known row, also how often it came in one batch';
comment on column sequin.dead_letter.state is 'dead: needs intervention; waiting: retried automatically, when the message may succeed; paused: retried when its mapping is enabled';
comment on column sequin.dead_letter.last_attempt_at is 'When the last attempt was made';

-- Rows that were written while the call had no time left to retry the letters that wait for them.
create table sequin.ready_row (
    relation   regclass not null,
    key        bytea not null,
    written_at timestamp with time zone not null,
    primary key (relation, key)
);
create index ready_row_written_at on sequin.ready_row (written_at);
comment on table sequin.ready_row is 'Written rows that dead letters still wait for: later calls retry these dead letters, each call for at most sequin.heal_time';
comment on column sequin.ready_row.relation is 'Table of the row';
comment on column sequin.ready_row.key is 'Hash of the row''s key, as in sequin.dead_letter.waits_for';
comment on column sequin.ready_row.written_at is 'When the row was written; dead letters that were tried since then are not retried for this row';
revoke all on sequin.ready_row from public;
select pg_catalog.pg_extension_config_dump('sequin.ready_row', '');

-- Not dumped: after a restore, the next call finds the broken mappings again.
create table sequin.broken_mapping (
    mapping  integer primary key,
    since    timestamp with time zone not null default pg_catalog.clock_timestamp(),
    sqlstate text not null,
    reason   text not null,
    hint     text
);
comment on table sequin.broken_mapping is 'Mappings that cannot write anything in their present state; sequin.status shows them';
comment on column sequin.broken_mapping.mapping is 'sequin.mapping.id';
comment on column sequin.broken_mapping.since is 'When a call found the fault';
comment on column sequin.broken_mapping.sqlstate is 'SQLSTATE of the error';
comment on column sequin.broken_mapping.reason is 'Message of the error';
comment on column sequin.broken_mapping.hint is 'HINT of the error';
revoke all on sequin.broken_mapping from public;

-- Dumps carry mappings and dead letters. Identity sequences are dumped with their values.
select pg_catalog.pg_extension_config_dump('sequin.mapping', '');
select pg_catalog.pg_extension_config_dump('sequin.mapping_id_seq', '');
select pg_catalog.pg_extension_config_dump('sequin.dead_letter', '');
select pg_catalog.pg_extension_config_dump('sequin.dead_letter_id_seq', '');

create function sequin_internal.mapping_check() returns trigger
    language c as 'MODULE_PATHNAME', 'mapping_check_wrapper';
comment on function sequin_internal.mapping_check() is 'Fills in name, owner and search_path of a mapping, and raises one error for all of its faults';
revoke all on function sequin_internal.mapping_check() from public;

create function sequin_internal.dead_letter_changed() returns trigger
    language c as 'MODULE_PATHNAME', 'dead_letter_changed_wrapper';
comment on function sequin_internal.dead_letter_changed() is 'Makes every session look for dead letters that wait for its rows';
revoke all on function sequin_internal.dead_letter_changed() from public;
create trigger dead_letter_changed after insert or update on sequin.dead_letter
    for each statement execute function sequin_internal.dead_letter_changed();
-- Every trigger of the extension is ENABLE ALWAYS: tools that load data set session_replication_role to
-- replica, under which the server fires no other trigger.
alter table sequin.dead_letter enable always trigger dead_letter_changed;

-- When its mapping is removed, a dead letter has no mapping, and a retry routes it to the mappings of all owners. So
-- an owner with privileges on the table must not choose its message.
create function sequin_internal.dead_letter_check() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    owner oid = (select e.extowner from pg_extension e where e.extname = 'pg_sequin');
begin
    if not pg_has_role(owner, 'USAGE') then
        raise exception 'permission denied to write the messages of dead letters'
            using errcode = 'insufficient_privilege',
                  detail = 'A dead letter whose mapping is removed is routed to the mappings of all owners.',
                  hint = format('Let a member of role %s run the statement.', owner::regrole);
    end if;
    return null;
end $$;
comment on function sequin_internal.dead_letter_check() is 'Lets only members of the extension''s owner choose messages and mappings of dead letters';
revoke all on function sequin_internal.dead_letter_check() from public;
create trigger dead_letter_check before insert or update of mapping, message on sequin.dead_letter
    for each statement execute function sequin_internal.dead_letter_check();
alter table sequin.dead_letter enable always trigger dead_letter_check;

create function sequin_internal.mapping_changed() returns trigger
    language c as 'MODULE_PATHNAME', 'mapping_changed_wrapper';
comment on function sequin_internal.mapping_changed() is 'Makes every session read the mappings again';
revoke all on function sequin_internal.mapping_changed() from public;

-- The sources that each role may map. Members of the extension's owner may map every source.
create table sequin.granted_source (
    source     text not null,
    role       pg_catalog.regrole not null,
    granted_by pg_catalog.name not null default current_user,
    granted_at timestamp with time zone not null default pg_catalog.now(),
    primary key (source, role)
);
comment on table sequin.granted_source is 'Sources that roles may map; sequin.grant_source and sequin.revoke_source change them';
comment on column sequin.granted_source.source is 'Pattern of source tables, as in sequin.mapping; the role may make every mapping whose source the pattern covers';
comment on column sequin.granted_source.role is 'The role; its members may map the source too';
comment on column sequin.granted_source.granted_by is 'Name that the granting role had at that time';
comment on column sequin.granted_source.granted_at is 'When the source was first granted to the role';
select pg_catalog.pg_extension_config_dump('sequin.granted_source', '');

create function sequin_internal.source_check() returns trigger
    language c as 'MODULE_PATHNAME', 'source_check_wrapper';
comment on function sequin_internal.source_check() is 'Refuses a source that is not a pattern of source tables';
create trigger source_check before insert or update on sequin.granted_source
    for each row execute function sequin_internal.source_check();
alter table sequin.granted_source enable always trigger source_check;

create function sequin.grant_source(source_pattern text, role regrole) returns void
    language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
    insert into sequin.granted_source (source, role) values (grant_source.source_pattern, grant_source.role)
    on conflict do nothing $$;
comment on function sequin.grant_source(text, regrole) is
    'Lets a role and its members map the source tables of a pattern';

create function sequin.revoke_source(source_pattern text, role regrole) returns void
    language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
    delete from sequin.granted_source g
    where g.source = revoke_source.source_pattern and g.role = revoke_source.role;
    if not found then
        raise exception 'source "%" was not granted to role %', revoke_source.source_pattern, revoke_source.role
            using errcode = 'undefined_object', hint = 'sequin.source_grant lists what was granted.';
    end if;
end $$;
comment on function sequin.revoke_source(text, regrole) is
    'Revokes a grant of sequin.grant_source; existing mappings stay until sequin.unmap removes them';

create view sequin.source_grant with (security_barrier) as
select g.source, g.role, g.granted_by, g.granted_at
from sequin.granted_source g
where pg_catalog.pg_has_role(g.role::pg_catalog.oid, 'USAGE')
   or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE');
comment on view sequin.source_grant is 'Sources that roles may map. A role sees its own grants; members of pg_monitor see all';
comment on column sequin.source_grant.source is 'Pattern of source tables';
comment on column sequin.source_grant.role is 'The role; its members may map them too';
comment on column sequin.source_grant.granted_by is 'Name that the granting role had at that time';
comment on column sequin.source_grant.granted_at is 'When the sources were first granted to the role';

create trigger mapping_check before insert or update or delete on sequin.mapping
    for each row execute function sequin_internal.mapping_check();
alter table sequin.mapping enable always trigger mapping_check;
create function sequin_internal.mapping_truncated() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'sequin.mapping cannot be truncated'
        using errcode = 'feature_not_supported',
              detail = 'Each mapping is removed with the rights of its owner, and what is known of its rows with it.',
              hint = 'Run: DELETE FROM sequin.mapping;';
end $$;
comment on function sequin_internal.mapping_truncated() is 'Refuses TRUNCATE of the mappings';
revoke all on function sequin_internal.mapping_truncated() from public;
create trigger mapping_truncated before truncate on sequin.mapping
    for each statement execute function sequin_internal.mapping_truncated();
alter table sequin.mapping enable always trigger mapping_truncated;
create trigger mapping_changed after insert or update or delete on sequin.mapping
    for each statement execute function sequin_internal.mapping_changed();
alter table sequin.mapping enable always trigger mapping_changed;

-- USAGE, not MEMBER: a member of the owner that does not inherit the owner's rights must run SET ROLE first.
alter table sequin.mapping enable row level security;
create policy own on sequin.mapping
    using (pg_catalog.pg_has_role(owner::pg_catalog.oid, 'USAGE'))
    with check (pg_catalog.pg_has_role(owner::pg_catalog.oid, 'USAGE'));
alter table sequin.dead_letter enable row level security;
create policy own on sequin.dead_letter
    using (exists (select from sequin.mapping m
                   where m.name operator(pg_catalog.=) dead_letter.mapping));
revoke all on sequin.mapping, sequin.dead_letter from public;

-- The views read the tables as their owner, whom row security does not bind.
create view sequin.own_mapping with (security_barrier) as
select m.* from sequin.mapping m
where pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text);
comment on view sequin.own_mapping is 'The mappings of a role, for which it needs no privilege on sequin.mapping';
create view sequin.own_dead_letter with (security_barrier) as
select d.* from sequin.dead_letter d
where exists (select from sequin.mapping m
              where m.name operator(pg_catalog.=) d.mapping
                and pg_catalog.pg_has_role(m.owner::pg_catalog.oid, 'USAGE'::pg_catalog.text));
comment on view sequin.own_dead_letter is 'The dead letters of a role''s mappings, for which it needs no privilege on sequin.dead_letter';
do $$
declare
    col record;
begin
    for col in
        select c.relname, a.attname, pg_catalog.col_description(t.oid, a.attnum) as comment
        from pg_catalog.pg_class c
        join pg_catalog.pg_class t on c.relname operator(pg_catalog.=) ('own_'::pg_catalog.text operator(pg_catalog.||) t.relname::pg_catalog.text)::pg_catalog.name
        join pg_catalog.pg_attribute a on a.attrelid operator(pg_catalog.=) t.oid
        where c.relnamespace operator(pg_catalog.=) 'sequin'::pg_catalog.regnamespace::pg_catalog.oid
          and t.relnamespace operator(pg_catalog.=) c.relnamespace
          and a.attnum operator(pg_catalog.>) 0::pg_catalog.int2
    loop
        execute pg_catalog.format('comment on column sequin.%I.%I is %L', col.relname, col.attname, col.comment);
    end loop;
end $$;

-- The next three functions have no SET search_path, because the trigger stores the caller's search_path.
-- Every name in them is therefore qualified.
create function sequin_internal.save_mapping(
    source text, destination oid, columns text, key text[], filter text, mode text, on_delete text, soft_delete text,
    on_error text, guard text, name text
) returns integer
    language c volatile security invoker as 'MODULE_PATHNAME', 'save_mapping_wrapper';
comment on function sequin_internal.save_mapping(text, oid, text, text[], text, text, text, text, text, text, text) is
    'Internal: stores a mapping of the caller for sequin.map';

create function sequin.alter_mapping(
    name        text,
    enabled     boolean default null,
    source      text default null,
    destination regclass default null,
    columns     text default null,
    key         text[] default null,
    filter      text default null,
    mode        text default null,
    on_delete   text default null,
    soft_delete text default null,
    on_error    text default null,
    guard       text default null,
    new_name    text default null,
    reset       text[] default null
) returns void
    language c volatile security invoker as 'MODULE_PATHNAME', 'alter_mapping_wrapper';
comment on function sequin.alter_mapping(text, boolean, text, regclass, text, text[], text, text, text, text, text, text, text, text[]) is
    'Changes the settings of a mapping whose arguments are not null, and resets the settings named in reset to their defaults; columns is the text of a JSON object';

create function sequin.pause(mapping text) returns void
    language c volatile security invoker as 'MODULE_PATHNAME', 'pause_wrapper';
comment on function sequin.pause(text) is
    'Stops a mapping; sequin.keep_paused says whether its messages are kept, or whether calls with its messages fail';

create function sequin.resume(mapping text) returns void
    language c volatile security invoker as 'MODULE_PATHNAME', 'resume_wrapper';
comment on function sequin.resume(text) is 'Starts a paused mapping again; the next call applies the messages that were kept';

create function sequin.map(
    source      text,
    destination regclass,
    columns     jsonb default null,
    key         text[] default null,
    filter      text default null,
    mode        text default 'upsert',
    on_delete   text default 'delete',
    soft_delete text default null,
    on_error    text default 'dead_letter',
    guard       text default 'auto',
    name        text default null
) returns sequin.mapping
    language plpgsql volatile security invoker as $map$
#variable_conflict use_column
declare
    saved pg_catalog.int4;
    made  sequin.mapping;
begin
    if map.guard operator(pg_catalog.=) 'columns' and map.destination is not null then
        perform sequin_internal.add_guard_columns(map.destination);
    end if;

    saved = sequin_internal.save_mapping(
        map.source, map.destination::pg_catalog.oid, map.columns::pg_catalog.text, map.key, map.filter,
        map.mode, map.on_delete, map.soft_delete, map.on_error, map.guard, map.name);
    select m.* into made from sequin.own_mapping m where m.id operator(pg_catalog.=) saved;

    if made.guard operator(pg_catalog.=) 'auto' and made.mode operator(pg_catalog.=) 'upsert'
       and made.destination is not null then
        if sequin_internal.has_guard_columns(made.destination) then
            raise notice 'mapping "%" keeps the versions of its rows in the columns sequin_lsn, sequin_idx and sequin_committed_at of %', made.name, made.destination
                using hint = 'Use guard => ''table'' to keep them in sequin.row_version.';
        else
            raise notice 'mapping "%" keeps the versions of its rows in sequin.row_version', made.name
                using hint = 'Use guard => ''columns'' to keep them in three columns of the table, which costs less, or guard => ''table'' to stay with this.';
        end if;
    end if;
    return made;
end
$map$;
comment on function sequin.map(text, regclass, jsonb, text[], text, text, text, text, text, text, text) is
    'Makes a mapping, which writes messages of source to destination; replaces an existing mapping of the same name';

create function sequin_internal.has_guard_columns(destination regclass) returns boolean
    language sql stable security invoker set search_path = pg_catalog, pg_temp as $has$
    select count(*) = 3
    from pg_attribute a
    where a.attrelid = has_guard_columns.destination and not a.attisdropped and a.attgenerated = ''
      and (a.attname, a.atttypid) in (('sequin_lsn', 'int8'::regtype),
                                      ('sequin_idx', 'int4'::regtype),
                                      ('sequin_committed_at', 'timestamptz'::regtype))
$has$;
comment on function sequin_internal.has_guard_columns(regclass) is
    'Whether a table has the guard columns sequin_lsn, sequin_idx and sequin_committed_at';

-- A column with one of these names but another type is left alone here: sequin_internal.mapping_check refuses it.
create function sequin_internal.add_guard_columns(destination regclass) returns void
    language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $add$
declare
    statement text;
    relation  record;
begin
    select c.oid::regclass::text as name, c.relkind, pg_has_role(c.relowner, 'USAGE') as owned into relation
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
    if not relation.owned then
        raise exception 'must be owner of table %', relation.name
            using errcode = 'insufficient_privilege',
                  detail = 'Under guard ''columns'' the versions of rows are kept in columns of the table, which are missing.',
                  hint = 'Let its owner run: ' || statement || ' or use guard => ''table''.';
    end if;
    execute statement;
end
$add$;
comment on function sequin_internal.add_guard_columns(regclass) is
    'Adds the guard columns sequin_lsn, sequin_idx and sequin_committed_at to a table, unless they exist';

create function sequin.map_schema(source_schema text, destination_schema text)
    returns setof sequin.mapping
    language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $schema$
declare
    relation record;
    pattern  text;
    made     sequin.mapping;
    saved    integer;
    notices  text[] = '{}';
    tables   bigint = 0;
    faults   text[] = '{}';
    hints    text[] = '{}';
    code     text;
    state    text;
    message  text;
    details  text;
    advice   text;
begin
    if source_schema is null or destination_schema is null then
        raise exception '% must not be null',
            case when source_schema is null then 'source_schema' else 'destination_schema' end
            using errcode = 'null_value_not_allowed';
    end if;
    if not exists (select from pg_namespace n where n.nspname = destination_schema) then
        raise exception 'schema "%" does not exist', destination_schema
            using errcode = 'invalid_schema_name',
                  hint = 'Name the schema with the destination tables second.';
    end if;

    for relation in
        select c.oid::regclass as destination, c.relname as name
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = destination_schema and c.relkind in ('r', 'p') and not c.relispartition
          and not exists (select from pg_depend d
                          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
        order by c.relname
    loop
        tables = tables + 1;
        select string_agg(case when part ~ '[.*"]|^\s|\s$' then '"' || replace(part, '"', '""') || '"'
                               else part end, '.' order by n)
        into pattern
        from unnest(array[source_schema, relation.name]) with ordinality p (part, n);

        select m.* into made from sequin.own_mapping m
        where m.source = pattern and m.destination = relation.destination
        order by m.id limit 1;
        if not found then
            begin
                saved = sequin_internal.save_mapping(pattern, relation.destination::oid, null, null, null, 'upsert', 'delete',
                                            null, 'dead_letter', 'auto', null);
                select m.* into made from sequin.own_mapping m where m.id = saved;
                if not sequin_internal.has_guard_columns(made.destination) then
                    notices = notices || made.name;
                end if;
            exception when others then
                get stacked diagnostics state = returned_sqlstate, message = message_text,
                    details = pg_exception_detail, advice = pg_exception_hint;
                -- One error after the loop reports the faults of all tables.
                if left(state, 2) not in ('22', '23', '42') then
                    raise;
                end if;
                code = coalesce(code, state);
                faults = faults || concat_ws(' ', upper(left(message, 1)) || substr(message, 2) || '.',
                                             nullif(details, ''));
                hints = hints || advice;
                continue;
            end;
        end if;
        return next made;
    end loop;

    if tables = 0 then
        raise exception 'schema "%" has no tables', destination_schema
            using errcode = 'undefined_table',
                  hint = 'Make the destination tables first, or map a table of another schema with sequin.map.';
    end if;
    if cardinality(faults) > 0 then
        raise exception 'schema "%" cannot be mapped: % of its % tables have faults',
                destination_schema, cardinality(faults), tables
            using errcode = code,
                  detail = array_to_string(faults, E'\n'),
                  hint = array_to_string(array_remove(hints, ''), E'\n');
    end if;
    if cardinality(notices) > 0 then
        raise notice '% of % mappings keep the versions of their rows in sequin.row_version',
                cardinality(notices), tables
            using hint = 'sequin.map(..., guard => ''columns'') keeps them in three columns of the table, which costs less.';
    end if;
end
$schema$;
comment on function sequin.map_schema(text, text) is
    'Maps every table of the destination schema to the source table of the same name; existing mappings stay as they are';

create function sequin.retry(
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'retry_wrapper';
create function sequin.retry(
    id bigint,
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'retry_letter_wrapper';
create function sequin.retry(
    mapping text,
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'retry_mapping_wrapper';
comment on function sequin.retry() is 'Tries all dead letters of your mappings again, and returns the counts of their outcomes, as sequin_apply does';
comment on function sequin.retry(bigint) is 'Tries a dead letter again, and returns the counts of its outcomes, as sequin_apply does';
comment on function sequin.retry(text) is 'Tries the dead letters of a mapping again, and returns the counts of their outcomes, as sequin_apply does';

create function sequin.discard(id bigint) returns void
    language c volatile security invoker as 'MODULE_PATHNAME', 'discard_wrapper';
comment on function sequin.discard(bigint) is 'Removes a dead letter without applying it';

create function sequin.unmap(name text) returns void
    language c volatile security invoker as 'MODULE_PATHNAME', 'unmap_wrapper';
comment on function sequin.unmap(text) is
    'Removes a mapping; its destination keeps its rows';

-- Row versions, tombstones and resyncs: the state by which the guards recognise late messages.

create table sequin.row_version (
    mapping      integer not null,
    key          bytea not null,
    source       bigint,
    lsn          bigint,
    idx          integer,
    committed_at timestamp with time zone,
    read_at      timestamp with time zone,
    deleted      boolean not null default false,
    image        bigint,
    gone         jsonb,
    gaps         jsonb,
    primary key (mapping, key)
) with (fillfactor = 90);

comment on table sequin.row_version is 'Version of the newest change applied to each row, unless the destination holds the version itself; tombstones of deleted rows; gaps';
comment on column sequin.row_version.mapping is 'sequin.mapping.id';
comment on column sequin.row_version.key is 'The row''s key as bytes; equal keys have equal bytes';
comment on column sequin.row_version.source is 'Number of the source database of the change';
comment on column sequin.row_version.lsn is 'commit_lsn of the newest change; null if only reads were applied';
comment on column sequin.row_version.idx is 'commit_idx of the newest change; a negative fingerprint if the message had none';
comment on column sequin.row_version.committed_at is 'commit_timestamp of the newest change';
comment on column sequin.row_version.read_at is 'commit_timestamp of the newest read applied';
comment on column sequin.row_version.deleted is 'Whether the newest change deleted the row: a tombstone';
comment on column sequin.row_version.image is 'Fingerprint of the row, if a key change moved it to this key; for a tombstone: of the row that left, if the message held that row';
comment on column sequin.row_version.gone is 'The newest delete or departure by a key change, unless the other columns hold it: [source, lsn, idx, committed_at, fingerprint of the row that left, idx at which it was here]';
comment on column sequin.row_version.gaps is 'Columns whose value is older than the row: an object of column: [source, lsn, idx, committed_at] of the value, with true behind it if a read did not provide the column, or null if the value has not arrived yet; of a document: an object of its members with the same';

-- Tombstones in the order in which they were made, so that pruning starts with the oldest. The primary key is
-- needed where a publication is FOR ALL TABLES: without a replica identity, deletes fail there.
create table sequin.tombstone (
    made_at timestamp with time zone not null default pg_catalog.statement_timestamp(),
    mapping integer not null,
    key     bytea not null,
    primary key (made_at, mapping, key)
);
comment on column sequin.tombstone.made_at is 'When the row was deleted here';
comment on column sequin.tombstone.mapping is 'sequin.mapping.id';
comment on column sequin.tombstone.key is 'The row''s key as bytes, as in sequin.row_version';
comment on table sequin.tombstone is 'Tombstones of sequin.row_version in the order in which they were made, to be pruned after sequin.tombstone_retention';

-- Under guard 'columns', a row without an entry in sequin.row_version comes from this source.
create table sequin.home_source (
    mapping integer primary key,
    source  bigint not null
);
comment on column sequin.home_source.mapping is 'sequin.mapping.id';
comment on column sequin.home_source.source is 'Number of the source database';
comment on table sequin.home_source is 'Source database whose positions the guard columns of a destination hold; rows from other databases have an entry in sequin.row_version';

-- The columns by which the entries of a mapping are stored, to notice when the key's columns are altered.
create table sequin.key_shape (
    mapping integer primary key,
    columns jsonb not null
);
comment on table sequin.key_shape is 'Columns, types and encodings of the keys in sequin.row_version: the keys are made anew when the key is altered';
comment on column sequin.key_shape.mapping is 'sequin.mapping.id';
comment on column sequin.key_shape.columns is 'The key''s columns in its order: name, number, type, word for the encoding, and collation if the encoding depends on it';

-- Mappings that were removed, with the versions of their rows: a mapping of the same source, destination and owner
-- takes them over.
create table sequin.former_mapping (
    id          integer primary key,
    source      text not null,
    destination regclass not null,
    owner       regrole not null,
    in_columns  boolean not null,
    home_source bigint,
    key_shape   jsonb,
    removed_at  timestamp with time zone not null default pg_catalog.clock_timestamp()
);
comment on table sequin.former_mapping is 'Removed mappings whose versions are kept for sequin.tombstone_retention';
comment on column sequin.former_mapping.id is 'sequin.mapping.id';
comment on column sequin.former_mapping.source is 'sequin.mapping.source';
comment on column sequin.former_mapping.destination is 'sequin.mapping.destination';
comment on column sequin.former_mapping.owner is 'sequin.mapping.owner';
comment on column sequin.former_mapping.in_columns is 'Whether the destination''s guard columns hold the versions of its rows';
comment on column sequin.former_mapping.home_source is 'sequin.home_source.source';
comment on column sequin.former_mapping.key_shape is 'sequin.key_shape.columns';
comment on column sequin.former_mapping.removed_at is 'When the mapping was removed';
create table sequin.former_version (
    mapping integer not null,
    key     bytea not null,
    version jsonb not null,
    primary key (mapping, key)
);
comment on table sequin.former_version is 'Versions of the rows of removed mappings';
comment on column sequin.former_version.mapping is 'sequin.former_mapping.id';
comment on column sequin.former_version.key is 'The row''s key as bytes';
comment on column sequin.former_version.version is 'The row''s entry of sequin.row_version';

-- Messages do not tell the types of the source. A backfill sends null for those that it cannot read.
create table sequin.unreadable_member (
    mapping integer not null,
    name    text not null,
    shapes  bigint not null,
    primary key (mapping, name, shapes)
);
comment on table sequin.unreadable_member is 'Members of records that a backfill cannot read, as far as the values of changes tell: null in a read counts as unknown';
comment on column sequin.unreadable_member.mapping is 'sequin.mapping.id';
comment on column sequin.unreadable_member.name is 'Member of the record';
comment on column sequin.unreadable_member.shapes is 'Set of types that can have sent the values; of several entries of a member, what they have in common counts, and without such a type a backfill can read the member';

-- Sequin sends generated columns in reads only.
create table sequin.lacking_column (
    mapping integer not null,
    name    text not null,
    by_read boolean not null,
    primary key (mapping, name)
);
comment on table sequin.lacking_column is 'Columns of destinations that changes lack, as far as records have shown';
comment on column sequin.lacking_column.mapping is 'sequin.mapping.id';
comment on column sequin.lacking_column.name is 'Column of the destination';
comment on column sequin.lacking_column.by_read is 'Whether reads have the column: changes leave it stale';

-- Resyncs in progress, and the rows that messages have confirmed in them.
create table sequin.resync (
    mapping    integer primary key,
    started_at timestamp with time zone not null default pg_catalog.clock_timestamp(),
    confirmed_before bigint not null default 0,
    first_read_at timestamp with time zone
);
create table sequin.resync_seen (
    mapping integer not null,
    key     bytea not null,
    primary key (mapping, key)
);
comment on table sequin.resync is 'Resyncs in progress: sequin.begin_resync begins one, sequin.finish_resync and sequin.cancel_resync end it';
comment on column sequin.resync.mapping is 'sequin.mapping.id';
comment on column sequin.resync.started_at is 'When the resync began';
comment on column sequin.resync.confirmed_before is 'Rows that sequin.counter had counted as confirmed when the resync began';
comment on column sequin.resync.first_read_at is 'When the first read since then arrived; null if none has';
comment on table sequin.resync_seen is 'Rows that a message has confirmed since the resync began';
comment on column sequin.resync_seen.mapping is 'sequin.mapping.id';
comment on column sequin.resync_seen.key is 'The row''s key as bytes, as in sequin.row_version';

create function sequin_internal.forget_former(former integer) returns void
    language sql security definer set search_path = pg_catalog, pg_temp as $$
    delete from sequin.former_version v where v.mapping = forget_former.former;
    delete from sequin.former_mapping f where f.id = forget_former.former;
$$;
comment on function sequin_internal.forget_former(integer) is 'Internal: deletes what is kept of a removed mapping';
revoke all on function sequin_internal.forget_former(integer) from public;

create function sequin_internal.mapping_removed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    forgotten bigint;
    kept      boolean = tg_op = 'DELETE' and old.mode = 'upsert' and old.guard <> 'off'
                        and exists (select from pg_class c where c.oid = old.destination);
begin
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
comment on function sequin_internal.mapping_removed() is 'Deletes the state of the rows of a mapping when it gets another destination, and puts it aside when it is removed';
revoke all on function sequin_internal.mapping_removed() from public;

create function sequin_internal.mapping_renamed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update sequin.dead_letter set mapping = new.name where mapping = old.name;
    return null;
end $$;
comment on function sequin_internal.mapping_renamed() is 'Renames the mapping in its dead letters';
revoke all on function sequin_internal.mapping_renamed() from public;
create trigger mapping_renamed after update of name on sequin.mapping
    for each row when (old.name operator(pg_catalog.<>) new.name)
    execute function sequin_internal.mapping_renamed();
alter table sequin.mapping enable always trigger mapping_renamed;

create function sequin_internal.take_over(mapping integer, empty boolean, out former integer, out in_columns boolean,
                                 out rows bigint)
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    taken sequin.former_mapping;
begin
    delete from sequin.former_mapping f using sequin.mapping m
    where m.id = take_over.mapping and f.source = m.source and f.destination = m.destination and f.owner = m.owner
    returning f.* into taken;
    if taken.id is null then
        return;
    end if;
    former = taken.id;
    in_columns = taken.in_columns;
    insert into sequin.home_source (mapping, source)
    select take_over.mapping, taken.home_source where taken.home_source is not null;
    insert into sequin.key_shape (mapping, columns)
    select take_over.mapping, taken.key_shape where taken.key_shape is not null;
    with gone as (delete from sequin.former_version v where v.mapping = taken.id returning v.version)
    insert into sequin.row_version (mapping, key, source, lsn, idx, committed_at, read_at, deleted, image, gone, gaps)
    select take_over.mapping, v.key, v.source, v.lsn, v.idx, v.committed_at, v.read_at, v.deleted, v.image, v.gone,
           v.gaps
    from gone g cross join lateral jsonb_populate_record(null::sequin.row_version, g.version) v
    -- an empty table starts over
    where v.deleted or not take_over.empty;
    get diagnostics rows = row_count;
    insert into sequin.tombstone (mapping, key)
    select v.mapping, v.key from sequin.row_version v
    where v.mapping = take_over.mapping and (v.deleted or v.source is null);
end $$;
comment on function sequin_internal.take_over(integer, boolean) is 'Internal: gives a mapping the versions of the removed mapping before it';
revoke all on function sequin_internal.take_over(integer, boolean) from public;

create function sequin_internal.mapping_versions() returns trigger
    language c security definer set search_path = pg_catalog, pg_temp as 'MODULE_PATHNAME', 'mapping_versions_wrapper';
comment on function sequin_internal.mapping_versions() is 'Carries the versions of a mapping''s rows over to another key or guard, or from the removed mapping before it';
revoke all on function sequin_internal.mapping_versions() from public;
create trigger mapping_versions after insert on sequin.mapping
    for each row execute function sequin_internal.mapping_versions();
alter table sequin.mapping enable always trigger mapping_versions;
-- It waits for calls that apply messages to the mapping: pausing must not.
create trigger mapping_versions_altered after update of destination, key, guard, mode on sequin.mapping
    for each row when (coalesce(old.destination::pg_catalog.oid, 0::pg_catalog.oid)
                           operator(pg_catalog.<>) coalesce(new.destination::pg_catalog.oid, 0::pg_catalog.oid)
                       or coalesce(old.key, '{}'::pg_catalog.text[])
                           operator(pg_catalog.<>) coalesce(new.key, '{}'::pg_catalog.text[])
                       or old.guard operator(pg_catalog.<>) new.guard
                       or old.mode operator(pg_catalog.<>) new.mode)
    execute function sequin_internal.mapping_versions();
alter table sequin.mapping enable always trigger mapping_versions_altered;

create trigger mapping_removed after delete on sequin.mapping
    for each row execute function sequin_internal.mapping_removed();
alter table sequin.mapping enable always trigger mapping_removed;
-- Row versions hold for one destination.
create trigger mapping_moved after update of destination on sequin.mapping
    for each row when (coalesce(old.destination::pg_catalog.oid, 0::pg_catalog.oid)
                           operator(pg_catalog.<>) coalesce(new.destination::pg_catalog.oid, 0::pg_catalog.oid))
    execute function sequin_internal.mapping_removed();
alter table sequin.mapping enable always trigger mapping_moved;

revoke all on sequin.row_version, sequin.tombstone, sequin.home_source, sequin.key_shape, sequin.former_mapping,
    sequin.former_version, sequin.resync, sequin.resync_seen from public;
create function sequin_internal.mapping_reads_otherwise() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from sequin.unreadable_member where mapping = old.id;
    delete from sequin.lacking_column where mapping = old.id;
    return null;
end $$;
comment on function sequin_internal.mapping_reads_otherwise() is 'Forgets what messages have told of the source when a mapping gets another source or other columns';
revoke all on function sequin_internal.mapping_reads_otherwise() from public;
create trigger mapping_reads_otherwise after update of source, columns on sequin.mapping
    for each row when (old.source operator(pg_catalog.<>) new.source
                       or coalesce(old.columns, 'null'::pg_catalog.jsonb)
                           operator(pg_catalog.<>) coalesce(new.columns, 'null'::pg_catalog.jsonb))
    execute function sequin_internal.mapping_reads_otherwise();
alter table sequin.mapping enable always trigger mapping_reads_otherwise;

revoke all on sequin.row_version, sequin.tombstone, sequin.home_source, sequin.unreadable_member, sequin.lacking_column, sequin.resync,
    sequin.resync_seen from public;

select pg_catalog.pg_extension_config_dump('sequin.row_version', '');
select pg_catalog.pg_extension_config_dump('sequin.tombstone', '');
select pg_catalog.pg_extension_config_dump('sequin.home_source', '');
select pg_catalog.pg_extension_config_dump('sequin.key_shape', '');
select pg_catalog.pg_extension_config_dump('sequin.former_mapping', '');
select pg_catalog.pg_extension_config_dump('sequin.former_version', '');
select pg_catalog.pg_extension_config_dump('sequin.unreadable_member', '');
select pg_catalog.pg_extension_config_dump('sequin.lacking_column', '');
select pg_catalog.pg_extension_config_dump('sequin.resync', '');
select pg_catalog.pg_extension_config_dump('sequin.resync_seen', '');

create function sequin.row_key(variadic "any") returns bytea
    language c stable parallel safe as 'MODULE_PATHNAME', 'row_key_wrapper';
comment on function sequin.row_key(variadic "any") is
    'The bytes of a key in sequin.row_version; null if a part of the key is null';

-- The next five functions are for the statements of sequin.finish_resync, and of a change from guard columns to
-- guard table, which run as the mapping's owner.
-- The statement passes a secret number. A call without this number is an error.
create function sequin_internal.in_resync(mapping integer, token bigint) returns boolean
    language c volatile as 'MODULE_PATHNAME', 'in_resync_wrapper';
comment on function sequin_internal.in_resync(integer, bigint) is 'Internal to sequin.finish_resync: refuses a call by any other statement';

create function sequin_internal.is_confirmed(mapping integer, key bytea, token bigint) returns boolean
    language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select sequin_internal.in_resync(is_confirmed.mapping, is_confirmed.token)
       and exists (select from sequin.resync_seen s
                   where s.mapping = is_confirmed.mapping and s.key = is_confirmed.key) $$;
create function sequin_internal.is_known(mapping integer, key bytea, token bigint) returns boolean
    language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select sequin_internal.in_resync(is_known.mapping, is_known.token)
       and exists (select from sequin.row_version v
                   where v.mapping = is_known.mapping and v.key = is_known.key) $$;
comment on function sequin_internal.is_known(integer, bytea, bigint) is 'Internal to sequin.finish_resync: whether sequin.row_version has an entry of the row';
create function sequin_internal.note_gone(mapping integer, key bytea, lsn bigint, idx integer,
                                 committed_at timestamp with time zone, token bigint) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Only for rows that the resync did not confirm.
    if sequin_internal.is_confirmed(note_gone.mapping, note_gone.key, note_gone.token) then
        return;
    end if;
    insert into sequin.row_version as v (mapping, key, source, lsn, idx, committed_at, deleted)
    select note_gone.mapping, note_gone.key,
           (select h.source from sequin.home_source h where h.mapping = note_gone.mapping),
           note_gone.lsn, note_gone.idx,
           -- A row without a version gets the start of the resync: the row was gone from the source by then.
           coalesce(note_gone.committed_at,
                    (select r.started_at from sequin.resync r where r.mapping = note_gone.mapping)),
           true
    on conflict on constraint row_version_pkey do update
    set deleted = true, gaps = null, gone = null, image = null, read_at = null;
    insert into sequin.tombstone (mapping, key) values (note_gone.mapping, note_gone.key)
    on conflict do nothing;
end $$;
comment on function sequin_internal.is_confirmed(integer, bytea, bigint) is 'Internal to sequin.finish_resync: whether a message has confirmed the row since the resync of the mapping began';
comment on function sequin_internal.note_gone(integer, bytea, bigint, integer, timestamp with time zone, bigint) is 'Internal to sequin.finish_resync: leaves a tombstone for a row that a resync removes';

create function sequin_internal.note_version(mapping integer, key bytea, lsn bigint, idx integer,
                                    committed_at timestamp with time zone, token bigint) returns boolean
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not sequin_internal.in_resync(note_version.mapping, note_version.token) then
        return false;
    end if;
    insert into sequin.row_version as v (mapping, key, source, lsn, idx, committed_at, read_at)
    select note_version.mapping, note_version.key, h.source, note_version.lsn, note_version.idx,
           case when note_version.lsn is not null then note_version.committed_at end,
           case when note_version.lsn is null then note_version.committed_at end
    from (values (note_version.mapping)) m(id) left join sequin.home_source h on h.mapping = m.id
    on conflict on constraint row_version_pkey do update
    set source = case when excluded.lsn is null or (v.lsn, v.idx) = (excluded.lsn, excluded.idx)
                      then coalesce(v.source, excluded.source) else excluded.source end,
        lsn = coalesce(excluded.lsn, v.lsn), idx = coalesce(excluded.idx, v.idx),
        committed_at = coalesce(excluded.committed_at, v.committed_at),
        read_at = greatest(v.read_at, excluded.read_at)
    where not v.deleted;
    return true;
end $$;
comment on function sequin_internal.note_version(integer, bytea, bigint, integer, timestamp with time zone, bigint) is 'Internal: stores the version of a row in sequin.row_version that a guard column held';

create function sequin.begin_resync(mapping text) returns timestamp with time zone
    language c volatile as 'MODULE_PATHNAME', 'begin_resync_wrapper';
create function sequin.finish_resync(
    mapping text, dry_run boolean default false, min_confirmed double precision default 0.5) returns bigint
    language c volatile as 'MODULE_PATHNAME', 'finish_resync_wrapper';
create function sequin.cancel_resync(mapping text) returns void
    language c volatile as 'MODULE_PATHNAME', 'cancel_resync_wrapper';
create function sequin.forget_versions(mapping text) returns void
    language c volatile as 'MODULE_PATHNAME', 'forget_versions_wrapper';
comment on function sequin.begin_resync(text) is
    'Begins a resync: from now on, the rows that messages confirm are recorded. Start a backfill in Sequin next';
comment on function sequin.finish_resync(text, boolean, double precision) is
    'Ends a resync: deletes the rows that no message has confirmed since it began, and returns their number; a dry run only counts them. Refuses if no read has arrived since, or if less than the share min_confirmed of the rows was confirmed; 0 deletes whatever was not';
comment on function sequin.cancel_resync(text) is
    'Ends a resync without deleting rows';
comment on function sequin.forget_versions(text) is
    'Deletes the versions of the mapping''s rows, so that the next message for each row is applied whatever its position';

create function sequin.accept_drift(mapping text) returns bigint
    language c volatile as 'MODULE_PATHNAME', 'accept_drift_wrapper';
comment on function sequin.accept_drift(text) is
    'Takes the keys that the records of the mapping have now as they are: sequin.status shows no drift of them; returns how many keys drifted';

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

-- Explains a mapping, and shows what a batch would do. The caller needs the rights of the owner of every
-- mapping involved, because rows are written and read as that owner.

create function sequin.explain(mapping text)
    returns table (part text, name text, type text, source text, "cast" text, sql text)
    language c volatile as 'MODULE_PATHNAME', 'explain_mapping_wrapper';
comment on function sequin.explain(text) is
    'Source of each column of a mapping''s destination, and the statements that write the destination';

create function sequin_internal.explain_rows(batch text)
    returns table ("position" bigint, mapping text, key text, outcome text, sqlstate text, error text,
                   before text, after text)
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'explain_rows_wrapper';
comment on function sequin_internal.explain_rows(text) is 'Internal to sequin.explain and sequin.explain_batch';

create function sequin.explain_batch(batch text)
    returns table ("position" bigint, mapping text, key jsonb, outcome text, sqlstate text, error text,
                   before jsonb, after jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $$
    select e."position", e.mapping, e.key::jsonb, e.outcome, e.sqlstate, e.error, e.before::jsonb, e.after::jsonb
    from sequin_internal.explain_rows(explain_batch.batch) e $$;
comment on function sequin.explain_batch(text) is
    'What sequin_apply(batch) would do: the outcome of each message in each mapping, and the row before and after; nothing is applied';

create function sequin.explain(batch jsonb)
    returns table ("position" bigint, mapping text, key jsonb, outcome text, sqlstate text, error text,
                   before jsonb, after jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $$
    select e."position", e.mapping, e.key, e.outcome, e.sqlstate, e.error, e.before, e.after
    from sequin.explain_batch(explain.batch::text) e $$;
comment on function sequin.explain(jsonb) is
    'What sequin_apply(batch) would do: the outcome of each message in each mapping, and the row before and after; nothing is applied';

-- Whether each mapping can write, evaluated afresh. Only the mappings whose owner's rights the caller has are shown, so
-- that every role may call it.

create function sequin.check()
    returns table (mapping text, state text, sqlstate text, error text, hint text)
    language c volatile as 'MODULE_PATHNAME', 'check_mappings_wrapper';
comment on function sequin.check() is
    'A row for each of your mappings: whether it can write now, and if not, the error and what to run. Nothing is written; works on a standby';

-- Compares the rows of two tables without moving the rows.

create function sequin.fingerprint_query(
    relation     regclass,
    columns      text[] default null,
    bucket_count integer default 64,
    key          text[] default null,
    source       text default null
) returns text
    language c stable set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'fingerprint_query_wrapper';
comment on function sequin.fingerprint_query(regclass, text[], integer, text[], text) is
    'The query of sequin.fingerprint as plain SQL, to run at the source; the argument source names the table there';

-- Runs with the caller's rights. The settings matter only for types whose output function the query uses:
-- for other types, the query spells values in a way that depends on no setting.
create function sequin.fingerprint(
    relation     regclass,
    columns      text[] default null,
    bucket_count integer default 64,
    key          text[] default null
) returns table (bucket integer, rows bigint, hash numeric)
    language plpgsql stable security invoker
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres'
    set bytea_output = 'hex' set extra_float_digits = 1 as $fingerprint$
begin
    return query execute sequin.fingerprint_query(
        fingerprint.relation, fingerprint.columns, fingerprint.bucket_count, fingerprint.key);
end
$fingerprint$;
comment on function sequin.fingerprint(regclass, text[], integer, text[]) is
    'Number of rows, and a hash that does not depend on their order, for each bucket of keys; equal for two tables with the same rows';

-- Sequences of destinations, which messages do not advance.

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
        select distinct q.oid::regclass as sequence, t.oid::regclass as destination, a.attname as name,
               p.seqincrement as step, p.seqmin as least, p.seqmax as largest,
               format('%I.%I', n.nspname, t.relname) as relation, format('%I.%I', m.nspname, q.relname) as spelled
        from sequin.status s
        join pg_class t on t.oid = s.destination::oid
        join pg_namespace n on n.oid = t.relnamespace
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
        execute format('select %s(%I) from %s', case when own.step > 0 then 'max' else 'min' end, own.name, own.relation)
        into most;
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

-- The functions that forwarders call. They run as the extension's owner, so that a forwarder needs EXECUTE
-- on them and nothing else. The rows of a mapping are written as the mapping's owner.

create function @extschema@.sequin_apply(
    batch text,
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
language c volatile security definer called on null input parallel unsafe
as 'MODULE_PATHNAME', 'sequin_apply_text_wrapper';

create function @extschema@.sequin_apply(
    batch jsonb,
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
language c volatile security definer called on null input parallel unsafe
as 'MODULE_PATHNAME', 'sequin_apply_jsonb_wrapper';

create function @extschema@.sequin_apply(
    payloads text[],
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
language c volatile security definer called on null input parallel unsafe
as 'MODULE_PATHNAME', 'sequin_apply_payloads_wrapper';

comment on function @extschema@.sequin_apply(text) is
    'Applies a batch of Sequin messages: one message, an array or an envelope of them, or JSON lines. A line that is not JSON is one dead letter.';
comment on function @extschema@.sequin_apply(text[]) is
    'Applies Sequin messages as a broker gave them: each payload is a message or an envelope of messages. A payload that is not JSON, or null, is one dead letter.';
comment on function @extschema@.sequin_apply(jsonb) is
    'Applies a batch of Sequin messages: one message, an array or an envelope of them.';

revoke all on function @extschema@.sequin_apply(text) from public;
revoke all on function @extschema@.sequin_apply(jsonb) from public;
revoke all on function @extschema@.sequin_apply(text[]) from public;

-- Returns the rows of the batch that is being applied; outside sequin_apply it raises an error. Statements
-- that run as the owner of a mapping call the function, so the owner is granted EXECUTE. ROWS 1 makes joins
-- begin with the batch and look up the rows of the other table, however large that table was when the plan
-- was made.
create function sequin_internal.batch()
returns setof record
language c volatile strict parallel unsafe rows 1
as 'MODULE_PATHNAME', 'sequin_batch_wrapper';

comment on function sequin_internal.batch() is 'Internal to sequin_apply: the rows that it is writing.';

-- Counts the rows that a statement has read. If the statement fails, the count shows which row failed.
create function sequin_internal.next_row() returns boolean
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'next_row_wrapper';

comment on function sequin_internal.next_row() is 'Internal to sequin_apply: counts the rows that it is writing.';

create function sequin.build_profile() returns text
language c immutable parallel safe
as 'MODULE_PATHNAME', 'build_profile_wrapper';

comment on function sequin.build_profile() is 'How this library was built: release or debug.';

-- Long work in portions, each in a transaction of its own: retrying and discarding dead letters, pruning, and ending
-- a resync.
--
-- A procedure commits between portions; a function in C does one portion. The procedure runs with its caller's
-- rights, since one with settings of its own cannot commit. So every role may execute the function, and the
-- function checks the privilege on the procedure.

-- A run commits its row after each portion, and removes the row at its end. The row of a stopped run stays
-- until the next run of any session. A run is under way while its session executes the statement that began it.
create table sequin.run (
    pid          integer primary key,
    statement_at timestamp with time zone not null default pg_catalog.statement_timestamp(),
    work         text not null,
    role         regrole not null,
    mapping      text,
    sqlstate     text,
    started_at   timestamp with time zone not null default pg_catalog.clock_timestamp(),
    upto         bigint not null default 0,
    most         bigint,
    before       timestamp with time zone,
    last_letter  bigint not null default 0,
    phase        text,
    place        text not null default '(0,0)',
    blocks       bigint not null default 16,
    waits        integer not null default 0,
    done         bigint not null default 0,
    healed       bigint not null default 0,
    deleted      bigint not null default 0,
    remaining    bigint not null default 0,
    counted_at   bigint not null default 0,
    updated_at   timestamp with time zone not null default pg_catalog.clock_timestamp()
);
comment on table sequin.run is 'Runs of work in portions, stopped runs included; sequin.progress shows the runs under way';
comment on column sequin.run.pid is 'Process ID of the session';
comment on column sequin.run.statement_at is 'When the statement began that calls the procedure';
comment on column sequin.run.work is 'Name of the procedure';
comment on column sequin.run.role is 'Role that called the procedure';
comment on column sequin.run.mapping is 'Mapping whose rows or dead letters the run is about; null for all mappings';
comment on column sequin.run.sqlstate is 'SQLSTATE of the dead letters that the run is about; null for any';
comment on column sequin.run.started_at is 'When the run began; dead letters that were tried since then are not tried again';
comment on column sequin.run.upto is 'id of the newest dead letter when the run began';
comment on column sequin.run.most is 'Limit on the number of dead letters; null for no limit';
comment on column sequin.run.before is 'When the dead letters that the run removes were received at the latest; null for any time';
comment on column sequin.run.last_letter is 'id of the last dead letter that the run has come to';
comment on column sequin.run.phase is 'What the next portion of finish_resync_in_portions does: settle, compare, delete, end or forget';
comment on column sequin.run.place is 'ctid up to which the rows of the destination have been looked at';
comment on column sequin.run.blocks is 'Number of blocks of the destination that the next portion looks at';
comment on column sequin.run.waits is 'How often in turn a portion did not get a lock';
comment on column sequin.run.done is 'Number of dead letters or rows that the run has come to';
comment on column sequin.run.healed is 'Number of tried dead letters that are gone: applied, or void because a newer change was applied';
comment on column sequin.run.deleted is 'Number of rows deleted';
comment on column sequin.run.remaining is 'Number of dead letters, or of rows, still to come to, as far as counted';
comment on column sequin.run.counted_at is 'Value of done when remaining was counted';
comment on column sequin.run.updated_at is 'When the last portion ended';
revoke all on sequin.run from public;

-- A session does not see the statements of others: of these, the time of the last portion decides.
create view sequin.progress with (security_barrier) as
select r.pid, r.work, r.role, r.mapping, r.sqlstate, r.started_at, r.done, r.healed, r.deleted, r.remaining, r.updated_at
from sequin.run r
join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) r.pid
where (a.query_start operator(pg_catalog.=) r.statement_at and a.state operator(pg_catalog.=) 'active'::pg_catalog.text
       or a.query_start is null
          and r.updated_at operator(pg_catalog.>) (pg_catalog.clock_timestamp() operator(pg_catalog.-) '1 minute'::pg_catalog.interval))
  and (pg_catalog.pg_has_role(r.role::pg_catalog.oid, 'USAGE'::pg_catalog.text)
       or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text));
comment on view sequin.progress is 'Progress of the work in portions under way: a role sees its own runs, members of pg_monitor all';
comment on column sequin.progress.pid is 'Process ID of the session: pg_cancel_backend stops the run; committed portions stay';
comment on column sequin.progress.work is 'Name of the procedure: retry_all, discard, prune or finish_resync_in_portions';
comment on column sequin.progress.role is 'Role that called the procedure';
comment on column sequin.progress.mapping is 'Mapping whose rows or dead letters the run is about; null for all mappings';
comment on column sequin.progress.sqlstate is 'SQLSTATE of the dead letters that the run is about; null for any';
comment on column sequin.progress.started_at is 'When the run began';
comment on column sequin.progress.done is 'Number of dead letters or rows that the run has come to';
comment on column sequin.progress.healed is 'Number of tried dead letters that are gone: applied, or void because a newer change was applied';
comment on column sequin.progress.deleted is 'Number of rows deleted';
comment on column sequin.progress.remaining is 'Number of dead letters, or of rows, still to come to, at most';
comment on column sequin.progress.updated_at is 'When the last portion ended';

create function sequin_internal.retry_portion(
    mapping text, sqlstate text, letters bigint, most bigint,
    out more bigint, out commits bigint, out tried bigint, out done bigint, out healed bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'retry_portion_wrapper';
comment on function sequin_internal.retry_portion(text, text, bigint, bigint) is
    'Internal: one step of sequin.retry_all; checks EXECUTE on that procedure';

-- Without SET: a procedure with settings of its own cannot commit. Every name is therefore qualified.
create procedure sequin.retry_all(
    mapping text default null, sqlstate text default null, max bigint default null, portion integer default 1000)
    language plpgsql security invoker as $all$
#variable_conflict use_column
declare
    step record;
begin
    if coalesce(retry_all.portion operator(pg_catalog.<) 1, true) or retry_all.max operator(pg_catalog.<) 0 then
        raise exception 'portion must be at least 1, and max must not be negative'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of letters that are tried in one transaction, max that of all.';
    end if;
    select p.more, p.commits, p.done, p.healed into step
    from sequin_internal.retry_portion(retry_all.mapping, retry_all.sqlstate, null, retry_all.max) p;
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'letters are retried in one transaction'
            using hint = 'CALL sequin.retry_all commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        select p.more, p.commits, p.done, p.healed into step
        from sequin_internal.retry_portion(retry_all.mapping, retry_all.sqlstate, retry_all.portion, null) p;
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% letters were retried, of which % are gone', step.done, step.healed;
end
$all$;
comment on procedure sequin.retry_all(text, text, bigint, integer) is
    'Tries dead letters of your mappings again, each once: portion of them in each transaction, max in all. sequin.progress shows the progress. If the run is stopped, committed portions stay';

create function sequin_internal.resync_portion(
    mapping text, min_confirmed double precision, rows bigint,
    out more bigint, out commits bigint, out waits bigint, out deleted bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'resync_portion_wrapper';
comment on function sequin_internal.resync_portion(text, double precision, bigint) is
    'Internal: one step of sequin.finish_resync_in_portions; checks EXECUTE on that procedure';

create procedure sequin.finish_resync_in_portions(
    mapping text, min_confirmed double precision default 0.5, portion integer default 1000)
    language plpgsql security invoker as $portions$
#variable_conflict use_column
declare
    step record;
begin
    if coalesce(finish_resync_in_portions.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of rows that are deleted in one transaction, at most.';
    end if;
    select p.commits, p.waits into step
    from sequin_internal.resync_portion(finish_resync_in_portions.mapping, finish_resync_in_portions.min_confirmed, null) p;
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
        select p.more, p.commits, p.waits, p.deleted into step
        from sequin_internal.resync_portion(finish_resync_in_portions.mapping, finish_resync_in_portions.min_confirmed,
                                   finish_resync_in_portions.portion) p;
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% rows were deleted', step.deleted;
end
$portions$;
comment on procedure sequin.finish_resync_in_portions(text, double precision, integer) is
    'Ends a resync as sequin.finish_resync does, but in transactions that each delete portion rows at most, so that calls wait a moment only. sequin.progress shows the progress. If the run is stopped, committed portions stay, and the resync goes on: call it again';

create function sequin_internal.discard_portion(
    mapping text, sqlstate text, before bigint, letters bigint,
    out more bigint, out commits bigint, out done bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'discard_portion_wrapper';
comment on function sequin_internal.discard_portion(text, text, bigint, bigint) is
    'Internal: one step of sequin.discard; checks EXECUTE on that procedure';

-- Two parameters without default: what has no type, as in sequin.discard($1), is the number of a dead letter.
create procedure sequin.discard(
    mapping text, sqlstate text, older_than interval default null, portion integer default 1000)
    language plpgsql security invoker as $discard$
#variable_conflict use_column
declare
    before bigint = pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() operator(pg_catalog.-) discard.older_than)
                    operator(pg_catalog.*) 1000000::pg_catalog.float8;
    step   record;
begin
    if coalesce(discard.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of letters that are discarded in one transaction.';
    end if;
    select p.more, p.commits, p.done into step
    from sequin_internal.discard_portion(discard.mapping, discard.sqlstate, before, null) p;
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'letters are discarded in one transaction'
            using hint = 'CALL sequin.discard commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        select p.more, p.commits, p.done into step
        from sequin_internal.discard_portion(discard.mapping, discard.sqlstate, before, discard.portion) p;
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% letters were discarded', step.done;
end
$discard$;
comment on procedure sequin.discard(text, text, interval, integer) is
    'Removes dead letters of your mappings without applying them: those of a mapping and an SQLSTATE (null: any) that were received longer ago than older_than, portion of them in each transaction';

create function sequin_internal.prune_portion(
    rows bigint, out more bigint, out commits bigint, out done bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'prune_portion_wrapper';
comment on function sequin_internal.prune_portion(bigint) is
    'Internal: one step of sequin.prune; checks EXECUTE on that procedure';

create procedure sequin.prune(portion integer default 1000)
    language plpgsql security invoker as $prune$
#variable_conflict use_column
declare
    step record;
begin
    if coalesce(prune.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of rows that are pruned in one transaction.';
    end if;
    select p.more, p.commits, p.done into step from sequin_internal.prune_portion(null) p;
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'rows are pruned in one transaction'
            using hint = 'CALL sequin.prune commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        select p.more, p.commits, p.done into step from sequin_internal.prune_portion(prune.portion) p;
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% rows were pruned', step.done;
end
$prune$;
comment on procedure sequin.prune(integer) is
    'Removes tombstones that are older than sequin.tombstone_retention, and what removed mappings and ended resyncs have left, portion of each kind in each transaction. Calls of sequin_apply do so as well';

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
    sequin_internal.has_guard_columns(regclass), sequin_internal.add_guard_columns(regclass), sequin.build_profile(),
    sequin.fingerprint(regclass, text[], integer, text[]),
    sequin.fingerprint_query(regclass, text[], integer, text[], text)
    to public;
