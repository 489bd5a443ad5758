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
comment on column sequin.lacking_column.name is 'Column of the destination; for a member that SQL reads: the column, or filter, and the member in parentheses';
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

-- The next six functions are for the statements of sequin.finish_resync, and of a change from guard columns to
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
create function sequin_internal.has_row(mapping integer, its integer, key bytea, deleted boolean, token bigint) returns boolean
    language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select sequin_internal.in_resync(has_row.mapping, has_row.token)
       and exists (select from sequin.row_version v
                   where v.mapping = has_row.its and v.key = has_row.key and (has_row.deleted or not v.deleted)) $$;
comment on function sequin_internal.has_row(integer, integer, bytea, boolean, bigint) is 'Internal to sequin.finish_resync: whether a mapping has the row, or had it before it was deleted';
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
