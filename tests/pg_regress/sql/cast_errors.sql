-- An error of a value tells its path, the column and its type, and the reason in PostgreSQL's own words.
create schema cast_errors;
set search_path = cast_errors, test, public;
create type addr as (street varchar(5), zip int, "Ok ?" bool);
create type person as (name text, homes addr[]);
create domain even as int check (value % 2 = 0);
create type mood as enum ('sad', 'ok');
create table item (
    id int primary key, n int2, price numeric(6,2), at timestamptz, day date, feeling mood, tags varchar(3)[], grid int[], moods mood[],
    evens even[], home addr, who person, doc jsonb, docs jsonb[], size int4range, bytes bytea, spans interval[], city text, said text);
select name from sequin.map('public.item', 'item', name => 'item', columns => '{
    "city": "record.address.city", "n": "record.stock.n", "said": "metadata.enrichment", "*": "record.*"}');
create function sent(record text, changes text default 'null', action text default 'insert') returns text language sql as $$
    select format('{"action": "%s", "record": %s, "changes": %s, "metadata": {"table_schema": "public", "table_name": "item",
                    "commit_lsn": 1, "commit_idx": 0, "enrichment": "fine"}}', action, record, changes)
$$;
select * from sequin_apply('[' || (select string_agg(sent('{"id": ' || n || ', ' || part || '}'), ',' order by n) from unnest(array[
    '"stock": {"n": 40000}',
    '"stock": {"n": "many"}',
    '"price": "12345.00"',
    '"at": "soon"',
    '"day": 20240101',
    '"feeling": "angry"',
    -- array elements
    '"tags": ["a", "b", "long"]',
    '"grid": [[1, 2], [3, "x"]]',
    '"grid": [[1, 2], [3]]',
    '"grid": {"a": 1}',
    '"moods": [null, "ok", "glad"]',
    '"evens": [2, 4, 5]',
    '"spans": [{"days": 1}, {"years": 1}]',
    -- fields of composite types
    '"home": {"street": "too long", "zip": 1}',
    '"home": {"street": "a", "zip": "x"}',
    '"home": {"Ok ?": 7}',
    '"home": {"nothing": 7}',
    '"home": "(a,b"',
    '"who": {"name": "Ana", "homes": [{"zip": 1}, {"zip": 1.5}]}',
    -- documents
    '"doc": {"a": [1, {"note": "nul \u0000"}]}',
    '"doc": {"a\u0000": 1}',
    '"docs": [1, {"b": "\u0000"}]',
    -- what is not a string
    '"size": [1, 2]',
    '"bytes": {"a": 1}',
    '"size": "[3,1]"',
    '"address": {"city": "nul \u0000"}'
]) with ordinality part(part, n)) || ']');
\pset format unaligned
select position, sqlstate, error, detail from sequin.dead_letter order by position;
delete from sequin.dead_letter;

-- keys, the former one as well, and values of changes
select * from sequin_apply('[' || sent('{"id": "x"}') || ',' || sent('{"id": 2}', '{"id": 1.5}', 'update') || ']');
create table copy (id int primary key, former int, fixed int);
select name from sequin.map('public.item', 'copy', name => 'copy', columns => '{"id": "record.id", "former": "changes.price"}');
select * from sequin_apply(sent('{"id": 3}', '{"price": "a lot"}', 'update'));
select position, mapping, sqlstate, error, detail from sequin.dead_letter order by id;
delete from sequin.dead_letter;
delete from sequin.mapping;

-- SQL: which column's, or the filter
create table computed (id int primary key, total int, ratio numeric, at date);
select name from sequin.map('public.item', 'computed', name => 'computed', filter => '(record->>''kind'')::int > 0', columns => '{
    "id": "record.id", "total": {"sql": "(record->>''total'')::int"}, "ratio": {"sql": "1 / (record->>''by'')::numeric"},
    "at": {"sql": "(record->>''at'')::date"}}');
select * from sequin_apply('[' || concat_ws(',',
    sent('{"id": 1, "kind": 1, "total": "x", "by": 1}'),
    sent('{"id": 2, "kind": 1, "total": 1, "by": 0}'),
    sent('{"id": 3, "kind": 1, "total": 1, "by": 1, "at": "2024-13-01"}'),
    sent('{"id": 4, "kind": "odd", "total": "x", "by": 0}'),
    sent('{"id": 5, "kind": 0, "total": "x", "by": 0}'),
    sent('{"id": 6, "kind": 1, "total": 1, "note": {"text": "\u0000"}}'),
    sent('{"id": 7, "kind": 1, "total": 1, "by": 1}')) || ']');
table computed;
select position, sqlstate, error, detail from sequin.dead_letter order by position;
delete from sequin.dead_letter;
-- the same when the call fails
update sequin.mapping set on_error = 'raise';
\set VERBOSITY default
\set SHOW_CONTEXT never
select * from sequin_apply('[' || sent('{"id": 8, "kind": 1, "total": 1, "by": 1}') || ',' || sent('{"id": 1, "kind": 1, "total": "x", "by": 1}') || ']');
select * from sequin_apply(sent('{"id": "y", "kind": 1, "total": 1, "by": 1}'));
\set VERBOSITY terse
table computed;
\pset format aligned

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema cast_errors cascade;
