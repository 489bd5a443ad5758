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

create function sequin_internal.content(message text) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'content_wrapper';
comment on function sequin_internal.content(text) is 'Internal: what a message says, however it is spelled';
revoke all on function sequin_internal.content(text) from public;

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
create index dead_letter_message on sequin.dead_letter (pg_catalog.hashtextextended(case when pg_catalog.octet_length(message) operator(pg_catalog.>) 1048576 then message else sequin_internal.content(message) end, 0)) where row_key is null;
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
-- Not the grants of a role that was dropped: where the dump is restored, another role could have its OID.
select pg_catalog.pg_extension_config_dump('sequin.granted_source', 'where exists (select from pg_catalog.pg_roles r where r.oid operator(pg_catalog.=) role::pg_catalog.oid)');

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
comment on function sequin.resume(text) is 'Starts a paused mapping again; the next call with a message for it applies those that were kept before';

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
