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
comment on column sequin.row_version.gaps is 'Columns whose value is older than the row: an object of column: [source, lsn, idx, committed_at] of the value, with true behind it if a read did not provide the column, or null if the value has not arrived yet';

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

-- Resyncs in progress, and the rows that messages have confirmed in them.
create table sequin.resync (
    mapping    integer primary key,
    started_at timestamp with time zone not null default pg_catalog.clock_timestamp(),
    confirmed_before bigint not null default 0
);
create table sequin.resync_seen (
    mapping integer not null,
    key     bytea not null,
    primary key (mapping, key)
);
comment on table sequin.resync is 'Resyncs in progress: sequin.begin_resync begins one, sequin.finish_resync ends it';
comment on column sequin.resync.mapping is 'sequin.mapping.id';
comment on column sequin.resync.started_at is 'When the resync began';
comment on column sequin.resync.confirmed_before is 'Rows that sequin.counter had counted as confirmed when the resync began';
comment on table sequin.resync_seen is 'Rows that a message has confirmed since the resync began';
comment on column sequin.resync_seen.mapping is 'sequin.mapping.id';
comment on column sequin.resync_seen.key is 'The row''s key as bytes, as in sequin.row_version';

create function sequin.mapping_removed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    forgotten bigint;
begin
    delete from sequin.row_version where mapping = old.id;
    get diagnostics forgotten = row_count;
    if forgotten > 0 and tg_op = 'UPDATE' then
        raise warning 'the versions of % rows of mapping "%" are forgotten', forgotten, new.name
            using detail = 'They are kept by the former key in the former destination. Until the next message of a row, an older change is applied, and a deleted row can come back.',
                  hint = format('Run: SELECT sequin.begin_resync(%L); then start a backfill in Sequin, and run: SELECT sequin.finish_resync(%L);', new.name, new.name);
    elsif forgotten > 0 then
        raise notice 'the versions of % rows of mapping "%" are forgotten', forgotten, old.name
            using hint = 'If you map the source to the table again, run a backfill in Sequin: until then, an older change is applied, and a deleted row can come back.';
    end if;
    delete from sequin.tombstone where mapping = old.id;
    delete from sequin.home_source where mapping = old.id;
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
comment on function sequin.mapping_removed() is 'Deletes the state of the rows of a mapping when the mapping is removed, or gets another destination or key';
revoke all on function sequin.mapping_removed() from public;

create function sequin.mapping_renamed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update sequin.dead_letter set mapping = new.name where mapping = old.name;
    return null;
end $$;
comment on function sequin.mapping_renamed() is 'Renames the mapping in its dead letters';
revoke all on function sequin.mapping_renamed() from public;
create trigger mapping_renamed after update of name on sequin.mapping
    for each row when (old.name operator(pg_catalog.<>) new.name)
    execute function sequin.mapping_renamed();
alter table sequin.mapping enable always trigger mapping_renamed;

create function sequin.mapping_guarded() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    had_columns boolean = sequin.has_guard_columns(old.destination);
begin
    if (old.guard = 'columns' or old.guard = 'auto' and had_columns)
       and (new.guard = 'table' or new.guard = 'auto' and not had_columns) then
        raise warning 'the versions of the rows of mapping "%" are not used under guard ''%''', new.name, new.guard
            using detail = 'Until the next message of a row, an older change is applied, and a deleted row can come back.',
                  hint = format('Run: SELECT sequin.begin_resync(%L); then start a backfill in Sequin, and run: SELECT sequin.finish_resync(%L);', new.name, new.name);
    end if;
    return null;
end $$;
comment on function sequin.mapping_guarded() is 'Warns where another guard does not know the versions of a mapping''s rows';
revoke all on function sequin.mapping_guarded() from public;
create trigger mapping_guarded after update of guard on sequin.mapping
    for each row when (old.guard operator(pg_catalog.<>) new.guard and new.destination is not null
                       and old.mode operator(pg_catalog.=) 'upsert'::pg_catalog.text)
    execute function sequin.mapping_guarded();
alter table sequin.mapping enable always trigger mapping_guarded;

create trigger mapping_removed after delete on sequin.mapping
    for each row execute function sequin.mapping_removed();
alter table sequin.mapping enable always trigger mapping_removed;
-- Row versions hold for one destination and one key. When either changes, they are removed.
create trigger mapping_moved after update of destination, key on sequin.mapping
    for each row when (coalesce(old.destination::pg_catalog.oid, 0::pg_catalog.oid)
                           operator(pg_catalog.<>) coalesce(new.destination::pg_catalog.oid, 0::pg_catalog.oid)
                       or coalesce(old.key, '{}'::pg_catalog.text[])
                           operator(pg_catalog.<>) coalesce(new.key, '{}'::pg_catalog.text[]))
    execute function sequin.mapping_removed();
alter table sequin.mapping enable always trigger mapping_moved;

revoke all on sequin.row_version, sequin.tombstone, sequin.home_source, sequin.resync,
    sequin.resync_seen from public;

select pg_catalog.pg_extension_config_dump('sequin.row_version', '');
select pg_catalog.pg_extension_config_dump('sequin.tombstone', '');
select pg_catalog.pg_extension_config_dump('sequin.home_source', '');
select pg_catalog.pg_extension_config_dump('sequin.resync', '');
select pg_catalog.pg_extension_config_dump('sequin.resync_seen', '');

create function sequin.row_key(variadic "any") returns bytea
    language c stable parallel safe as 'MODULE_PATHNAME', 'row_key_wrapper';
comment on function sequin.row_key(variadic "any") is
    'The bytes of a key in sequin.row_version; null if a part of the key is null';

-- The next four functions are for the statement of sequin.finish_resync, which runs as the mapping's owner.
-- The statement passes a secret number. A call without this number is an error.
create function sequin.in_resync(mapping integer, token bigint) returns boolean
    language c volatile as 'MODULE_PATHNAME', 'in_resync_wrapper';
comment on function sequin.in_resync(integer, bigint) is 'Internal to sequin.finish_resync: refuses a call by any other statement';

create function sequin.is_confirmed(mapping integer, key bytea, token bigint) returns boolean
    language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select sequin.in_resync(is_confirmed.mapping, is_confirmed.token)
       and exists (select from sequin.resync_seen s
                   where s.mapping = is_confirmed.mapping and s.key = is_confirmed.key) $$;
create function sequin.is_known(mapping integer, key bytea, token bigint) returns boolean
    language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select sequin.in_resync(is_known.mapping, is_known.token)
       and exists (select from sequin.row_version v
                   where v.mapping = is_known.mapping and v.key = is_known.key) $$;
comment on function sequin.is_known(integer, bytea, bigint) is 'Internal to sequin.finish_resync: whether sequin.row_version has an entry of the row';
create function sequin.note_gone(mapping integer, key bytea, lsn bigint, idx integer,
                                 committed_at timestamp with time zone, token bigint) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Only for rows that the resync did not confirm.
    if sequin.is_confirmed(note_gone.mapping, note_gone.key, note_gone.token) then
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
comment on function sequin.is_confirmed(integer, bytea, bigint) is 'Internal to sequin.finish_resync: whether a message has confirmed the row since the resync of the mapping began';
comment on function sequin.note_gone(integer, bytea, bigint, integer, timestamp with time zone, bigint) is 'Internal to sequin.finish_resync: leaves a tombstone for a row that a resync removes';

create function sequin.begin_resync(mapping text) returns timestamp with time zone
    language c volatile as 'MODULE_PATHNAME', 'begin_resync_wrapper';
create function sequin.finish_resync(mapping text, dry_run boolean default false) returns bigint
    language c volatile as 'MODULE_PATHNAME', 'finish_resync_wrapper';
create function sequin.forget_versions(mapping text) returns void
    language c volatile as 'MODULE_PATHNAME', 'forget_versions_wrapper';
comment on function sequin.begin_resync(text) is
    'Begins a resync: from now on, the rows that messages confirm are recorded. Start a backfill in Sequin next';
comment on function sequin.finish_resync(text, boolean) is
    'Ends a resync: deletes the rows that no message has confirmed since it began, and returns their number; a dry run only counts them';
comment on function sequin.forget_versions(text) is
    'Deletes the versions of the mapping''s rows, so that the next message for each row is applied whatever its position';

create function sequin.accept_drift(mapping text) returns bigint
    language c volatile as 'MODULE_PATHNAME', 'accept_drift_wrapper';
comment on function sequin.accept_drift(text) is
    'Takes the keys that the records of the mapping have now as they are: sequin.status shows no drift of them; returns how many keys drifted';
