-- A row whose new key cannot be written yet stays at the old one.
create schema key_change_waits;
set search_path = key_change_waits, test, public;
create table parent (id integer primary key);
create table child (id integer primary key, email text unique, parent integer references parent);
select name from sequin.map('public.child', 'child', name => 'child');
insert into parent values (1);
select * from sequin_apply(batch(message('insert', 'child', '{"id": 1, "email": "a", "parent": 1}')));
-- the parent has not come
select * from sequin_apply(batch(
    message('update', 'child', '{"id": 2, "email": "a", "parent": 7}', '{"id": 1, "parent": 1}'),
    message('insert', 'child', '{"id": 5, "email": "e", "parent": 1}')));
table child order by id;
select position, sqlstate, state from sequin.dead_letter order by position;
-- the old row has the unique value: both rows are written at once
delete from sequin.dead_letter;
select * from sequin_apply(batch(
    message('update', 'child', '{"id": 3, "email": "a", "parent": 1}', '{"id": 1}'),
    message('insert', 'child', '{"id": 6, "email": "x", "parent": 8}')));
table child order by id;
select position, sqlstate, state from sequin.dead_letter order by position;
delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema key_change_waits cascade;
