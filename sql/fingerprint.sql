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
