-- guide.md, fan-in, option 2: a key column for each source table, and a check that a row has one.
create schema pattern_fanin_columns;
set search_path = pattern_fanin_columns, test, public;
create table combined_records (
  id serial primary key,
  users_id uuid,
  orders_id uuid,
  products_id uuid,
  data jsonb,
  constraint exactly_one_pk check (
    (users_id is not null)::integer +
    (orders_id is not null)::integer +
    (products_id is not null)::integer = 1
  ),
  constraint users_unique unique (users_id),
  constraint orders_unique unique (orders_id),
  constraint products_unique unique (products_id)
);
select t, (sequin.map('public.' || t, 'combined_records',
    columns => jsonb_build_object(t || '_id', 'record.id', 'data', 'record'),
    key => array[t || '_id'], guard => 'off')).key
from unnest(array['users', 'orders', 'products']) t;

select * from sequin_apply(batch(
    message('insert', 'users', '{"id": "00000000-0000-0000-0000-000000000001", "email": "a@example.com"}'),
    message('insert', 'orders', '{"id": "00000000-0000-0000-0000-000000000001", "total": "5.00"}'),
    message('read', 'products', '{"id": "00000000-0000-0000-0000-000000000002", "name": "Kettle"}')));
select users_id, orders_id, products_id, data from combined_records order by 1, 2, 3;

select * from sequin_apply(batch(
    message('update', 'users', '{"id": "00000000-0000-0000-0000-000000000001", "email": "b@example.com"}', '{}'),
    message('delete', 'orders', '{"id": "00000000-0000-0000-0000-000000000001", "total": null}'),
    message('insert', 'products', '{"id": "00000000-0000-0000-0000-000000000003", "name": "Pan"}')));
select users_id, orders_id, products_id, data from combined_records order by 1, 2, 3;
select count(distinct id) = count(*) as ids from combined_records;

select count(*) from sequin.dead_letter;
delete from sequin.mapping;
drop schema pattern_fanin_columns cascade;
