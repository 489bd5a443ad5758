-- What is known of rows beyond their values: the guards' memory.

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

comment on table sequin.row_version is 'The newest change applied to each row, where the destination does not hold it itself; tombstones of deleted rows; gaps';
comment on column sequin.row_version.mapping is 'sequin.mapping.id';
comment on column sequin.row_version.key is 'The row''s key as bytes, equal where the key is';
comment on column sequin.row_version.source is 'Number of the source database that the change came from';
comment on column sequin.row_version.lsn is 'commit_lsn of the newest change; null if only reads were applied';
comment on column sequin.row_version.idx is 'commit_idx of the newest change';
comment on column sequin.row_version.committed_at is 'commit_timestamp of the newest change';
comment on column sequin.row_version.read_at is 'commit_timestamp of the newest read applied';
comment on column sequin.row_version.deleted is 'Whether the newest change deleted the row: a tombstone';
comment on column sequin.row_version.image is 'Fingerprint of the row, if it came to this key by a change of its key';
comment on column sequin.row_version.gone is 'The newest departure: [source, lsn, idx, committed_at, fingerprint of the row that left, idx at which it was here]';
comment on column sequin.row_version.gaps is 'Columns whose value is older than the row: column → [source, lsn, idx, committed_at] of the value, null if it is unknown';

-- Tombstones in the order in which they were made, to be pruned from the front.
create table sequin.tombstone (
    made_at timestamp with time zone not null default pg_catalog.statement_timestamp(),
    mapping integer not null,
    key     bytea not null
);
create index tombstone_made_at on sequin.tombstone (made_at);
comment on table sequin.tombstone is 'Tombstones of sequin.row_version in the order in which they were made, to be pruned after sequin.tombstone_retention';

-- With guard columns, a row that has no row_version comes from this source.
create table sequin.home_source (
    mapping integer primary key,
    source  bigint not null
);
comment on table sequin.home_source is 'The source database whose positions the columns of a destination hold; rows of others have a row_version';

create function sequin.mapping_removed() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from sequin.row_version where mapping = old.id;
    delete from sequin.tombstone where mapping = old.id;
    delete from sequin.home_source where mapping = old.id;
    return null;
end $$;
revoke all on function sequin.mapping_removed() from public;

create trigger mapping_removed after delete on sequin.mapping
    for each row execute function sequin.mapping_removed();

revoke all on sequin.row_version, sequin.tombstone, sequin.home_source from public;

select pg_catalog.pg_extension_config_dump('sequin.row_version', '');
select pg_catalog.pg_extension_config_dump('sequin.tombstone', '');
select pg_catalog.pg_extension_config_dump('sequin.home_source', '');
