-- A value of a second unique index goes from one row to another within a batch.
create schema unique_swap;
set search_path = unique_swap, test, public;
create table item (id integer primary key, slug text constraint item_slug unique);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
-- given up and taken, in the order of the keys and against it
insert into item values (1, 'a'), (2, 'b');
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "slug": "z"}', '{}'), message('update', 'item', '{"id": 2, "slug": "a"}', '{}'),
    message('insert', 'item', '{"id": 3, "slug": "b"}')));
table item order by id;
select * from sequin_apply(batch(
    message('delete', 'item', '{"id": 3, "slug": null}'), message('update', 'item', '{"id": 2, "slug": "b"}', '{}'),
    message('update', 'item', '{"id": 1, "slug": "a"}', '{}')));
table item order by id;
-- taken before it is given up, as they arrive
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "slug": "b"}', '{}', lsn => 1002), message('update', 'item', '{"id": 2, "slug": "c"}', '{}', lsn => 1001)));
table item order by id;
-- swapped through a value that was there for a moment: the messages do it one by one, the last of each row alone do not
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "slug": "tmp"}', '{}'), message('update', 'item', '{"id": 2, "slug": "b"}', '{}'),
    message('update', 'item', '{"id": 1, "slug": "c"}', '{}')));
table item order by id;
select position, sqlstate, state from sequin.dead_letter order by position;
truncate item, sequin.dead_letter;

-- with a deferrable constraint the source swaps them in one statement
alter table item drop constraint item_slug, add constraint item_slug unique (slug) deferrable;
insert into item values (1, 'a'), (2, 'b'), (3, 'c');
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "slug": "b"}', '{}'), message('update', 'item', '{"id": 2, "slug": "c"}', '{}'),
    message('update', 'item', '{"id": 3, "slug": "a"}', '{}')));
table item order by id;
-- a value that somebody else keeps
select * from sequin_apply(batch(message('insert', 'item', '{"id": 4, "slug": "a"}'), message('insert', 'item', '{"id": 5, "slug": "e"}')));
table item order by id;
select position, sqlstate, error, detail, state, key from sequin.dead_letter order by position;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema unique_swap cascade;
