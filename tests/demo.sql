-- What pg_sequin does, in a fresh database: psql -X -q -f tests/demo.sql, from the root of the project.
-- The batches in tests/demo/ are real messages of Sequin 0.14.6, as its webhook sink sends them.
set client_min_messages = warning;
create extension pg_sequin;

\echo '== Two tables, orders with a foreign key to customers; one mapping each'
create table customers (id uuid primary key, name text not null, tier text, tags text[], is_active boolean);
create table orders (id bigint primary key, customer_id uuid not null references customers,
                     status text, total numeric(12,2), placed_on date);

select name from sequin.map('public.customers', 'customers')
union all
select name from sequin.map('public.orders', 'orders',
                            columns => '{"placed_on": {"sql": "(record->>''placed_at'')::date"}, "*": "record.*"}');

\set batch `cat tests/demo/batch1.json`
\echo '== Batch 1: the inserts of 3 customers and their orders, and 2 updates; orders before customers'
select * from sequin_apply(:'batch');
select name, tier, tags, is_active from customers order by name;
select o.id, c.name, o.status, o.total, o.placed_on
from orders o join customers c on c.id = o.customer_id order by o.id;

\set batch `cat tests/demo/batch2.json`
\echo '== Batch 2: order 1001 is paid and becomes 1001001; order 1002 is cancelled and then paid (the newer'
\echo '== change comes first); a customer is no longer active; another one is deleted, with order 1003'
select * from sequin_apply(:'batch');
select o.id, c.name, c.is_active, o.status, o.total
from orders o join customers c on c.id = o.customer_id order by o.id;

create temp table before as table orders;
\echo '== Batch 2 once more, as Sequin sends it when an answer was lost: nothing of it is new. Collapsed is a'
\echo '== change after which the batch has a newer one of its row'
select * from sequin_apply(:'batch');

\set batch `cat tests/demo/batch1.json`
\echo '== Batch 1 once more, late: older than what is there. No row changes, and no deleted one comes back'
select * from sequin_apply(:'batch');
select count(*) as "rows of orders that differ"
from ((table orders except table before) union all (table before except table orders)) d;

\set batch `cat tests/demo/batch3.json`
\echo '== Batch 3: an order whose total is no number, and its customer: the one is kept, the other is written'
select * from sequin_apply(:'batch');
select name, tier from customers where name like 'Eun-ji %';
\x on
select id, mapping, position, key, sqlstate, error, detail, state from sequin.dead_letter;
