-- Where the values of columns come from.
create schema columns_specs;
set search_path = columns_specs, test, public;
create function shout(text) returns text language sql immutable as $$ select upper($1) || '!' $$;
create table item (
    id integer primary key, name text default 'unnamed', city text, zip text, first_tag text default 'none',
    table_name text, lsn bigint, actor text, old_status text, status text, action text, email text,
    total numeric(10,2), source text, flags jsonb, document jsonb, extra integer default 7);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item', columns => '{
    "city": "record.address.city",
    "zip": "record.address.zip",
    "first_tag": "record.tags.0",
    "table_name": "metadata.table_name",
    "lsn": "metadata.commit_lsn",
    "actor": "metadata.transaction_annotations.actor",
    "old_status": "changes.status",
    "action": "action",
    "email": {"sql": "shout(record->>''email'') -- upper case"},
    "total": {"sql": "(record->>''price'')::numeric * (record->>''quantity'')::int"},
    "source": {"value": "shop"},
    "flags": {"value": {"a": [1, 2.50]}},
    "document": "record",
    "*": "record.*"}');
select * from sequin_apply(batch(message('update', 'item',
    '{"id": 1, "name": "one", "address": {"city": "Köln", "zip": 50667}, "tags": ["new", "red"], "status": "paid", "email": "a@b", "price": "2.505", "quantity": 2, "source": "not this"}',
    '{"status": "open"}', metadata => '{"commit_lsn": 9007199254740993, "transaction_annotations": {"actor": "jo"}}')));
\x
select * from item;
\x
-- keys that a record lacks: the value is kept by an update, the default taken by an insert
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "status": "sent", "email": null}', '{}'),
    message('insert', 'item', '{"id": 2, "status": "new"}')));
select id, name, city, zip, first_tag, status, old_status, extra, email, total, action from item order by id;
-- null is a value
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "name": null, "address": null, "extra": null}', '{}')));
select id, name, city, zip, status, extra from item where id = 1;

-- only what is named is written
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item',
                            columns => '{"id": "record.id", "name": {"sql": "''n'' || (record->>''id'')"}}');
select * from sequin_apply(batch(message('insert', 'item', '{"id": 3, "name": "x", "status": "new", "extra": 1}')));
select id, name, status, extra from item where id = 3;

-- the key from an expression and from a constant
create table part (origin text, code bigint, n integer, primary key (origin, code));
select name from sequin.map('public.part', 'part', guard => 'off', name => 'part',
    columns => '{"origin": {"value": "shop"}, "code": {"sql": "(record->>''code'')::int * 10"}, "n": "record.n"}');
select * from sequin_apply(batch(message('insert', 'part', '{"code": 1, "n": 1}'), message('update', 'part', '{"code": 1, "n": 2}', '{}'),
    message('insert', 'part', '{"code": 2, "n": 1}')));
select * from sequin_apply(batch(message('delete', 'part', '{"code": 2, "n": null}')));
table part;
-- an expression that fails harms its own message
select * from sequin_apply(batch(message('insert', 'part', '{"code": "x", "n": 1}'), message('insert', 'part', '{"code": 4, "n": 1}')));
table part order by 2;
select position, sqlstate, error from sequin.dead_letter;
-- also where it is in the midst of many, whose values the server has computed already
create table long (id integer primary key, name text, n numeric);
select name from sequin.map('public.long', 'long', guard => 'off', name => 'long', filter => $$record->>'n' <> 'no'$$,
    columns => '{"id": "record.id", "name": {"sql": "repeat(record->>''id'', 1000)"}, "n": {"sql": "(record->>''n'')::numeric"}}');
select a.* from sequin_apply((select batch(variadic array_agg(message('insert', 'long',
    json_build_object('id', n, 'n', case n when 50 then 'no' when 150 then 'x' else n::text end)) order by n))
    from generate_series(1, 200) n)) a;
select count(*), count(*) filter (where name = repeat(id::text, 1000) and n = id) as "right" from long;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema columns_specs cascade;
