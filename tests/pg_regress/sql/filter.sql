-- A row that the filter refuses is not there: an update that leaves the filtered set is a delete.
create schema filter;
set search_path = filter, test, public;
create table orders (id integer primary key, status text, total numeric);
select name from sequin.map('public.orders', 'orders', guard => 'off',
    filter => $$ record->>'status' <> 'draft' and coalesce((record->>'total')::numeric, 0) < 1000 $$);

select * from sequin_apply(batch(
    message('insert', 'orders', '{"id": 1, "status": "open", "total": "10"}'),
    message('insert', 'orders', '{"id": 2, "status": "draft", "total": "10"}'),
    message('read', 'orders', '{"id": 3, "status": "open", "total": "10"}'),
    message('read', 'orders', '{"id": 4, "status": "draft", "total": "10"}'),
    -- null is not true
    message('insert', 'orders', '{"id": 5, "status": null, "total": "10"}')));
table orders order by id;
-- one leaves, one comes, one was never there
select * from sequin_apply(batch(
    message('update', 'orders', '{"id": 1, "status": "draft", "total": "10"}', '{}'),
    message('update', 'orders', '{"id": 2, "status": "open", "total": "10"}', '{}'),
    message('update', 'orders', '{"id": 4, "status": "draft", "total": "20"}', '{}')));
table orders order by id;
-- and back again
select * from sequin_apply(batch(
    message('update', 'orders', '{"id": 1, "status": "open", "total": "11"}', '{}'),
    message('update', 'orders', '{"id": 2, "status": "open", "total": "5000"}', '{}')));
table orders order by id;
-- within a batch the last decides
select * from sequin_apply(batch(
    message('update', 'orders', '{"id": 1, "status": "draft", "total": "11"}', '{}'),
    message('update', 'orders', '{"id": 1, "status": "sent", "total": "12"}', '{}'),
    message('update', 'orders', '{"id": 3, "status": "sent", "total": "12"}', '{}'),
    message('update', 'orders', '{"id": 3, "status": "draft", "total": "12"}', '{}')));
table orders order by id;
-- a delete, whose record has only the key, is not asked about
select * from sequin_apply(batch(message('delete', 'orders', '{"id": 1, "status": null, "total": null}')));
select count(*) from orders;

-- the filter sees action, metadata and changes
select name from sequin.map('public.audited', 'orders', guard => 'off',
    filter => $$ action = 'update' and metadata->'database'->>'name' = 'shop' and changes ? 'status' $$);
select * from sequin_apply(batch(
    message('insert', 'audited', '{"id": 10, "status": "a"}'),
    message('update', 'audited', '{"id": 11, "status": "b"}', '{"status": "a"}'),
    message('update', 'audited', '{"id": 12, "status": "b"}', '{"total": 1}'),
    message('update', 'audited', '{"id": 13, "status": "b"}', '{"status": "a"}', metadata => '{"database": {"id": "x", "name": "crm"}}')));
select id, status from orders;
-- a row that moves to another key and out of the set is deleted where it was
delete from orders;
insert into orders values (30, 'open', 1), (31, 'open', 1);
select * from sequin_apply(batch(
    message('update', 'orders', '{"id": 40, "status": "draft", "total": "1"}', '{"id": 30, "status": "open"}'),
    message('update', 'orders', '{"id": 41, "status": "open", "total": "1"}', '{"id": 31}')));
select id, status from orders order by id;
-- a filter that fails harms its own message
select * from sequin_apply(batch(
    message('insert', 'orders', '{"id": 20, "status": "open", "total": "many"}'),
    message('insert', 'orders', '{"id": 21, "status": "open", "total": "1"}')));
select id, status from orders order by id;
select position, sqlstate, error from sequin.dead_letter;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema filter cascade;
