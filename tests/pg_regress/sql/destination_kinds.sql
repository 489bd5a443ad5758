-- Relations that are no ordinary tables: what can be a destination works, what becomes one that cannot says so.
create schema destination_kinds;
set search_path = destination_kinds, test, public;
create unlogged table item (id integer primary key, name text);
select name from sequin.map('public.item', 'item', guard => 'table', name => 'item');
select * from sequin_apply(batch(message('insert', 'item', '{"id": 1, "name": "one"}')));
table item;
-- a table that inherits: its own rows only
create table heir (primary key (id)) inherits (item);
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "uno"}', '{}'), message('insert', 'item', '{"id": 2, "name": "two"}')));
select tableoid::regclass, * from item order by id;
drop table heir;
-- a foreign table whose server does not answer: not the message's fault
create foreign data wrapper nobody;
create server nowhere foreign data wrapper nobody;
create foreign table far (id integer, name text) server nowhere;
select name from sequin.map('public.far', 'far', mode => 'append', name => 'far');
\set VERBOSITY default
\set SHOW_CONTEXT never
select * from sequin_apply(batch(message('insert', 'item', '{"id": 3, "name": "three"}'), message('insert', 'far', '{"id": 1, "name": "one"}')));
delete from sequin.dead_letter where mapping = 'far' returning mapping, sqlstate, error, state, hint;
select sequin.map('public.far', 'far', name => 'far');
\echo :LAST_ERROR_SQLSTATE
-- a view, whatever its triggers do
create view seen as select * from item;
create function instead() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger instead instead of insert or update or delete on seen for each row execute function instead();
select sequin.map('public.seen', 'seen', key => '{id}');
\echo :LAST_ERROR_SQLSTATE
create temporary table fleeting (id integer primary key);
select sequin.map('public.fleeting', 'fleeting');
\echo :LAST_ERROR_SQLSTATE
-- a table that becomes a view after it was mapped is gone
drop view seen;
alter table item rename to item_before;
drop table item_before;
create view item as select 1 as id, 'one' as name;
select * from sequin_apply(batch(message('insert', 'item', '{"id": 4, "name": "four"}')));
delete from sequin.dead_letter where mapping = 'item' returning mapping, sqlstate, error, state, hint;
-- a rule that does something else instead, made after the mapping
select sequin.unmap('item'), sequin.unmap('far');
create table ruled (id integer primary key, name text);
create table noted (id integer, name text);
select name from sequin.map('public.ruled', 'ruled', guard => 'off', name => 'ruled');
create rule elsewhere as on insert to ruled do instead insert into noted values (new.id, new.name);
select * from sequin_apply(batch(message('insert', 'ruled', '{"id": 1, "name": "one"}'), message('insert', 'ruled', '{"id": 2, "name": "two"}')));
select position, sqlstate, error, hint from sequin.dead_letter order by position;
table ruled;
table noted;
\set VERBOSITY terse

delete from sequin.mapping;
delete from sequin.dead_letter;
drop foreign data wrapper nobody cascade;
drop schema destination_kinds cascade;
