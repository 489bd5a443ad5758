-- What changes between two calls of a session is seen by the second one.
create schema invalidation;
set search_path = invalidation, test, public;
create table item (id integer primary key, name text, n integer, old text);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
select * from sequin_apply(batch(message('insert', 'item', '{"id": 1, "name": "one", "n": 1, "old": "x", "extra": "1.50"}')));
-- a column of another type
alter table item alter n type numeric(6,2);
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "name": "one", "n": 1.255, "old": "x", "extra": "1.50"}', '{}')));
table item;
-- a new column
alter table item add extra numeric;
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "name": "one", "n": 1, "old": "x", "extra": "1.50"}', '{}')));
table item;
-- a column less
alter table item drop old;
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "name": "uno", "n": 1, "old": "x", "extra": "1.50"}', '{}')));
table item;
-- renamed: columns, the table, its schema
alter table item rename extra to more;
alter table item rename to thing;
create schema invalidation_other;
alter table thing set schema invalidation_other;
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "name": "dos", "n": 1, "extra": "9", "more": "2.50"}', '{}')));
table invalidation_other.thing;
alter table invalidation_other.thing set schema invalidation;
alter table thing rename to item;
-- a constraint, a default, an enum's new label
create type mood as enum ('sad');
alter table item add mood mood, add constraint positive check (n > 0);
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "n": -1}', '{}'), message('insert', 'item', '{"id": 2, "mood": "ok"}')));
alter type mood add value 'ok';
alter table item drop constraint positive;
alter table item alter name set default 'unnamed';
select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "n": -1}', '{}'), message('insert', 'item', '{"id": 2, "mood": "ok"}')));
table item order by id;
-- another primary key
alter table item drop constraint item_pkey, alter id drop not null, add primary key (name);
select * from sequin_apply(batch(message('update', 'item', '{"id": 3, "name": "dos", "n": 3}', '{}')));
table item order by id;
alter table item drop constraint item_pkey, add primary key (id);
-- a trigger that comes and goes
create function no() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
create trigger no before insert on item for each row execute function no();
select received, upserted, dead from sequin_apply(batch(message('insert', 'item', '{"id": 4, "name": "four"}')));
drop trigger no on item;
select received, upserted, dead from sequin_apply(batch(message('insert', 'item', '{"id": 4, "name": "four"}')));

-- the mapping: changed, paused, resumed, removed
update sequin.mapping set columns = '{"id": "record.id", "name": {"value": "constant"}}' where name = 'item';
select received, upserted, dead from sequin_apply(batch(message('update', 'item', '{"id": 4, "name": "vier"}', '{}')));
select id, name from item where id = 4;
update sequin.mapping set enabled = false where name = 'item';
\set VERBOSITY default
select * from sequin_apply(batch(message('update', 'item', '{"id": 4}', '{}')));
\set VERBOSITY terse
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set enabled = true, filter = $$record->>'id' <> '4'$$ where name = 'item';
select received, deleted, dead from sequin_apply(batch(message('update', 'item', '{"id": 4}', '{}')));
update sequin.mapping set destination = null, columns = null, filter = null where name = 'item';
select received, ignored, dead from sequin_apply(batch(message('update', 'item', '{"id": 1}', '{}')));
select sequin.unmap('item');
select received, ignored, dead from sequin_apply(batch(message('update', 'item', '{"id": 1}', '{}')));
-- in one transaction that is rolled back
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
begin;
alter table item add note text;
update sequin.mapping set columns = '{"id": "record.id", "note": {"value": "rolled back"}}';
select received, upserted, dead from sequin_apply(batch(message('insert', 'item', '{"id": 5, "name": "five"}')));
select id, name, note from item where id = 5;
rollback;
select received, upserted, dead from sequin_apply(batch(message('insert', 'item', '{"id": 5, "name": "five"}')));
select id, name from item where id = 5;

-- a destination that is gone
drop table item;
\set VERBOSITY default
select * from sequin_apply(batch(message('insert', 'item', '{"id": 6, "name": "six"}')));
delete from sequin.dead_letter where mapping = 'item' returning mapping, sqlstate, error, state, hint;
\set VERBOSITY terse
-- made again, it is another table until it is mapped
create table item (id integer primary key, name text);
select * from sequin_apply(batch(message('insert', 'item', '{"id": 6, "name": "six"}')));
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
select received, upserted, dead from sequin_apply(batch(message('insert', 'item', '{"id": 6, "name": "six"}')));
table item;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema invalidation, invalidation_other cascade;
