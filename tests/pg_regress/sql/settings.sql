-- What is written does not depend on the settings of the session; nor are those changed.
create schema settings;
create schema settings_shadow;
set search_path = settings, test, public;
-- columns of text show how the server spelled a value
create table item (
    id timestamptz primary key, at timestamptz, day date, every interval, bytes bytea, f8 double precision, f4 real,
    at_text text, day_text text, every_text text, bytes_text text, f8_text text, lower_text text, document jsonb);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item', columns => '{
    "at_text": {"sql": "((record->>''at'')::timestamptz)::text"},
    "day_text": {"sql": "((record->>''day'')::date)::text"},
    "every_text": {"sql": "(interval ''1 day 02:03:04'')::text"},
    "bytes_text": {"sql": "((record->>''bytes'')::bytea)::text"},
    "f8_text": {"sql": "(0.1::float8 + 0.2::float8)::text"},
    "lower_text": {"sql": "lower(record->>''name'')"},
    "document": {"sql": "to_jsonb((record->>''at'')::timestamptz)"},
    "*": "record.*"}');
create table sent as select batch(
    message('insert', 'item', '{"id": "2026-03-29T01:30:00.000000Z", "at": "2026-02-01T23:00:00.5Z", "day": "2026-02-01", "every": {"months": 14, "days": 3, "microseconds": 14706789000}, "bytes": "\\x00ff41", "f8": 0.30000000000000004, "f4": 0.1, "name": "AB"}', lsn => 1),
    message('insert', 'item', '{"id": "2026-03-29T02:30:00.000000", "at": "2026-02-01 23:00:00", "day": "02/03/2026", "every": "1 2:03:04", "bytes": "\\\\101", "f8": "1e-5", "f4": 16777217, "name": null}', lsn => 2),
    message('delete', 'item', '{"id": "never", "at": null}', lsn => 3)) as batch;
create function applied() returns text language plpgsql as $$
begin
    perform settings.restart();
    perform public.sequin_apply((select batch from settings.sent));
    return settings.bytes();
end $$;
create function restart() returns void language sql set search_path = settings as $$ truncate item, sequin.dead_letter $$;
-- what is stored, spelled in one way
create function bytes() returns text language sql
    set search_path = settings set datestyle = iso set timezone = 'UTC' set intervalstyle = 'postgres' set bytea_output = hex set extra_float_digits = 3 as $$
    select (select string_agg(i::text, E'\n' order by i.id) from item i) || E'\n' ||
           (select string_agg(concat_ws(' ', l.sqlstate, l.error, l.detail, l.key), E'\n' order by l.position) from sequin.dead_letter l)
$$;
\pset format unaligned
select applied() as first;
create temp table first as select bytes() as first;
set datestyle = 'SQL, DMY';
select applied() = first as same from first;
set timezone = 'Asia/Kolkata';
select applied() = first as same from first;
set intervalstyle = 'sql_standard';
select applied() = first as same from first;
set bytea_output = 'escape';
select applied() = first as same from first;
set extra_float_digits = -15;
select applied() = first as same from first;
set xmloption = document;
select applied() = first as same from first;
set standard_conforming_strings = off;
set escape_string_warning = off;
set quote_all_identifiers = on;
select applied() = first as same from first;
set jit = off;
set enable_seqscan = off;
set enable_nestloop = off;
set enable_indexscan = off;
select applied() = first as same from first;
set transform_null_equals = on;
set check_function_bodies = off;
set row_security = off;
set default_transaction_read_only = off;
select applied() = first as same from first;
-- functions and operators of other schemas do not get in between
create function settings_shadow.lower(text) returns text language sql as $$ select 'shadow' $$;
create function settings_shadow.eq(timestamptz, timestamptz) returns boolean language sql as $$ select false $$;
create operator settings_shadow.= (function = settings_shadow.eq, leftarg = timestamptz, rightarg = timestamptz);
create table settings_shadow.item (id integer);
set search_path = settings_shadow, pg_catalog, public;
select settings.applied() = first as same from first;
-- the session's settings are as they were, after an error too
select * from sequin_apply('{');
select name, setting from pg_settings where name in ('DateStyle', 'TimeZone', 'IntervalStyle', 'bytea_output', 'extra_float_digits', 'search_path', 'xmloption', 'enable_seqscan') order by name collate "C";
\pset format aligned
reset all;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop table first;
drop schema settings, settings_shadow cascade;
