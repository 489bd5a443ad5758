-- Rows are upserted parents first and deleted children first, whatever the order of the batch.
create schema foreign_keys;
set search_path = foreign_keys, test, public;
create table line (id integer primary key, orders_id integer, n integer);
create table orders (id integer primary key, customer_id integer);
create table customer (id integer primary key, name text not null, friend integer references customer);
alter table orders add foreign key (customer_id) references customer;
alter table line add foreign key (orders_id) references orders;
-- mapped children first
select name from sequin.map_schema('public', 'foreign_keys');
update sequin.mapping set guard = 'off';
create view rows as
    select (select string_agg(concat_ws(' ', id, name, friend), ', ' order by id) from customer) as customers,
           (select string_agg(concat_ws(' ', id, customer_id), ', ' order by id) from orders) as orders,
           (select string_agg(concat_ws(' ', id, orders_id, n), ', ' order by id) from line) as lines;
select * from sequin_apply(batch(
    message('insert', 'line', '{"id": 100, "orders_id": 10, "n": 1}'),
    message('insert', 'orders', '{"id": 10, "customer_id": 1}'),
    message('insert', 'customer', '{"id": 1, "name": "Ann", "friend": 2}'),
    message('insert', 'customer', '{"id": 2, "name": "Bob", "friend": 1}'),
    message('insert', 'customer', '{"id": 3, "name": "Cid", "friend": 3}')));
table rows;
-- a child goes to a new parent and the old parent goes; a parent comes and goes
select * from sequin_apply(batch(
    message('delete', 'customer', '{"id": 1, "name": null, "friend": null}'),
    message('update', 'customer', '{"id": 2, "name": "Bob", "friend": 3}', '{}'),
    message('update', 'orders', '{"id": 10, "customer_id": 4}', '{}'),
    message('insert', 'customer', '{"id": 4, "name": "Dan", "friend": null}'),
    message('insert', 'customer', '{"id": 5, "name": "Eve", "friend": null}'),
    message('delete', 'customer', '{"id": 5, "name": null, "friend": null}')));
table rows;
-- all go, parents first in the batch
select * from sequin_apply(batch(
    message('delete', 'customer', '{"id": 3, "name": null, "friend": null}'),
    message('delete', 'customer', '{"id": 2, "name": null, "friend": null}'),
    message('delete', 'customer', '{"id": 4, "name": null, "friend": null}'),
    message('delete', 'orders', '{"id": 10, "customer_id": null}'),
    message('delete', 'line', '{"id": 100, "orders_id": null, "n": null}')));
table rows;
-- a parent that is poison, or not there: what refers to it waits, the others do not
select * from sequin_apply(batch(
    message('insert', 'line', '{"id": 101, "orders_id": 11, "n": 1}'),
    message('insert', 'orders', '{"id": 11, "customer_id": 6}'),
    message('insert', 'customer', '{"id": 6, "name": null, "friend": null}'),
    message('insert', 'customer', '{"id": 7, "name": "Fay", "friend": 8}'),
    message('insert', 'orders', '{"id": 12, "customer_id": 9}'),
    message('insert', 'orders', '{"id": 13, "customer_id": null}')));
table rows;
select position, sqlstate, state, key from sequin.dead_letter order by position;
truncate customer, orders, line, sequin.dead_letter;

-- a circle of two tables
create table head (id integer primary key, tail_id integer);
create table tail (id integer primary key, head_id integer references head);
alter table head add foreign key (tail_id) references tail;
select (sequin.map('public.head', 'head', guard => 'off')).mode, (sequin.map('public.tail', 'tail', guard => 'off')).mode;
select * from sequin_apply(batch(
    message('insert', 'head', '{"id": 1, "tail_id": null}'), message('insert', 'head', '{"id": 2, "tail_id": 1}'),
    message('insert', 'tail', '{"id": 1, "head_id": 1}')));
select * from head join tail on tail.id = tail_id;
select count(*) from sequin.dead_letter;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema foreign_keys cascade;
