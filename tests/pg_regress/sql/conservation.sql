-- Every message ends as one outcome in each mapping that takes it, or as one if none does.
create schema conservation;
set search_path = conservation, test, public;
create table item (id integer primary key, name text not null, gone boolean);
create table copy (id integer primary key, name text);
create table history (action text, id text, name text);
create table parent (id integer primary key);
create table child (id integer primary key, parent_id integer references parent);
create table part (id integer primary key, name text);
select name from sequin.map('public.item', 'item', name => 'soft', guard => 'off', on_delete => 'soft', soft_delete => 'gone');
select name from sequin.map('public.item', 'copy', name => 'filtered', guard => 'off', on_delete => 'delete', filter => $$record->>'name' like '%o%'$$);
select name from sequin.map('public.item', 'history', name => 'history', mode => 'append', columns => '{"action": "action", "*": "record.*"}');
select name from sequin.map('public.item', null, name => 'nothing');
select name from sequin.map('public.parent', 'parent', guard => 'off', name => 'parent');
select name from sequin.map('public.child', 'child', guard => 'off', name => 'child');
select name from sequin.map('public.p*', 'part', guard => 'off', name => 'wildcard');
create table sent as select batch(
    message('insert', 'item', '{"id": 1, "name": "one"}'),
    message('update', 'item', '{"id": 1, "name": "uno"}', '{"name": "one"}'),
    message('update', 'item', '{"id": 1, "name": null}', '{"name": "uno"}'),
    message('delete', 'item', '{"id": 2, "name": "six"}'),
    message('update', 'item', '{"id": 4, "name": "four"}', '{"id": 3}'),
    message('insert', 'item', '{"id": "x", "name": "poison"}'),
    message('read', 'item', '{"id": 5, "name": "five"}'),
    message('delete', 'item', '{"id": 6, "name": null}'),
    message('insert', 'child', '{"id": 1, "parent_id": 1}'),
    message('insert', 'child', '{"id": 2, "parent_id": 2}'),
    message('insert', 'parent', '{"id": 1}'),
    message('insert', 'parent', '{"id": 3}'),
    message('delete', 'parent', '{"id": 3}'),
    message('insert', 'part', '{"id": 1, "name": "part"}'),
    message('insert', 'pears', '{"id": 2, "name": "pear"}'),
    message('insert', 'unmapped', '{"id": 1}'),
    '"no message"', '{}', '[]',
    message('insert', 'item', '{"id": 1, "name": "one again"}')) as batch;
create function expected(batch jsonb) returns bigint language sql as $$
    select sum(case when m #>> '{metadata,table_name}' = 'item' then 4 else 1 end) from jsonb_array_elements(batch->'data') m
$$;
\set outcomes 'upserted + deleted + collapsed + stale + filtered + ignored + dead'
select received, upserted, deleted, collapsed, stale, filtered, ignored, dead, :outcomes as outcomes, expected(batch::jsonb)
from sent, sequin_apply(batch);
select mapping, position, sqlstate, state from sequin.dead_letter order by mapping, position;
select (select count(*) from item) as item, (select count(*) from copy) as copy, (select count(*) from history) as history,
       (select count(*) from parent) as parent, (select count(*) from child) as child, (select count(*) from part) as part;
-- once more, and as jsonb
select received, :outcomes as outcomes, expected(batch::jsonb) from sent, sequin_apply(batch);
select received, :outcomes as outcomes, expected(batch::jsonb) from sent, sequin_apply(batch::jsonb);

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema conservation cascade;
