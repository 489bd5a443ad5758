-- Exact mappings: all that match. Wildcards: only where no exact one matched, the most specific wins.
create schema routing;
set search_path = routing, test, public;
create table a (id integer primary key, name text);
create table b (id integer primary key, name text);
create table c (id integer primary key, name text);
create table d (id integer primary key, name text);
create table e (id integer primary key, name text);
create view written as
    select 'a' as t, * from a union all select 'b', * from b union all select 'c', * from c
    union all select 'd', * from d union all select 'e', * from e order by 2, 1;
select name from sequin.map('public.items', 'a', name => 'a', guard => 'off');
select name from sequin.map('public.items', 'b', name => 'b', guard => 'off');
select name from sequin.map('public.*', 'c', name => 'c', guard => 'off');
select name from sequin.map('public.item*', 'd', name => 'd', guard => 'off');

-- an exact mapping and another: both; the wildcards are not asked
select * from sequin_apply(batch(message('insert', 'items', '{"id": 1, "name": "items"}')));
-- no exact mapping: the most specific wildcard
select * from sequin_apply(batch(message('insert', 'itemset', '{"id": 2, "name": "itemset"}')));
select * from sequin_apply(batch(message('insert', 'users', '{"id": 3, "name": "users"}')));
-- names are compared as they are, _ and % and case mean nothing
select * from sequin_apply(batch(message('insert', 'Items', '{"id": 4, "name": "Items"}')));
table written;

-- a part for the database: its name or its id
select name from sequin.map('crm.public.items', 'e', name => 'e', guard => 'off');
select * from sequin_apply(batch(
    message('insert', 'items', '{"id": 5, "name": "crm"}', metadata => '{"database": {"id": "d2", "name": "crm"}}'),
    message('insert', 'items', '{"id": 6, "name": "shop"}')));
table written;
-- only an exact mapping of another database: the wildcards are asked
delete from sequin.mapping where name in ('a', 'b');
select * from sequin_apply(batch(
    message('insert', 'items', '{"id": 7, "name": "crm"}', metadata => '{"database": {"id": "d2", "name": "crm"}}'),
    message('insert', 'items', '{"id": 8, "name": "shop"}')));
select * from written where id >= 7;

-- mapped to null: received and ignored
select name from sequin.map('audit.*', null, name => 'ignore audit');
select * from sequin_apply(batch(message('insert', 'audit.log', '{"id": 1}'), message('delete', 'audit.log2', '{"id": 1}')));
select count(*) from sequin.dead_letter;

-- not mapped: dead letters, and one warning for the call
\set VERBOSITY default
select * from sequin_apply(batch(
    message('insert', 'crm.people', '{"id": 1}'), message('update', 'crm.o''hara', '{"id": 2}', '{}'),
    message('delete', 'crm.people', '{"id": 1}'), message('insert', 'public.users', '{"id": 9, "name": "users"}')));
\set VERBOSITY terse
\pset format unaligned
select position, mapping, sqlstate, error, detail, hint, state, message::json->>'action' as action, message::json->'record' as record
from sequin.dead_letter order by id;
\pset format aligned
-- the statements end it
select name from sequin.map('crm.people', null);
select name from sequin.map('crm.o''hara', 'routing.a', guard => 'off');
select * from sequin_apply(batch(message('insert', 'crm.people', '{"id": 1}'), message('update', 'crm.o''hara', '{"id": 10, "name": "o''hara"}', '{}')));
select * from written where id >= 9;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema routing cascade;
