-- The text overload takes several JSON values, with white space between them or none.
create schema jsonl;
set search_path = jsonl, test, public;
create table item (id integer primary key, name text);
select name from sequin.map('public.item', 'item', guard => 'off');

select * from sequin_apply(
    message('insert', 'item', '{"id": 1, "name": "one"}') || E'\n' ||
    message('insert', 'item', '{"id": 2, "name": "two"}') || E'\r\n\r\n' ||
    message('insert', 'item', '{"id": 3, "name": "three"}') ||
    message('insert', 'item', '{"id": 4, "name": "four"}') || E'\n');
-- lines of different shapes
select * from sequin_apply(
    batch(message('update', 'item', '{"id": 1, "name": "uno"}', '{}'), message('delete', 'item', '{"id": 2}')) || E'\n' ||
    '[' || message('insert', 'item', '{"id": 5, "name": "five"}') || E']\n42\n' ||
    message('insert', 'item', '{"id": 6, "name": "six"}'));
table item order by id;
select position, sqlstate, message from sequin.dead_letter;
-- the last line cut off: a dead letter
select * from sequin_apply(message('insert', 'item', '{"id": 7, "name": "seven"}') || E'\n{"action":"ins');
select count(*) from item;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema jsonl cascade;
