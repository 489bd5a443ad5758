-- A partitioned destination: rows find their partition, also when they move to another one.
create schema partitioned;
set search_path = partitioned, test, public;
create table sale (region text, id integer, amount numeric, primary key (region, id)) partition by list (region);
create table sale_eu partition of sale for values in ('eu');
-- a partition whose columns stand in another order
create table sale_us (note text, amount numeric, id integer not null, region text not null);
alter table sale_us drop column note;
alter table sale attach partition sale_us for values in ('us');
select name from sequin.map('public.sale', 'sale', guard => 'off', name => 'sale');
select * from sequin_apply(batch(
    message('insert', 'sale', '{"region": "eu", "id": 1, "amount": "1.00"}'),
    message('insert', 'sale', '{"region": "us", "id": 1, "amount": "2.00"}'),
    message('insert', 'sale', '{"region": "us", "id": 2, "amount": "3.00"}'),
    message('insert', 'sale', '{"region": "mars", "id": 1, "amount": "4.00"}')));
select tableoid::regclass, * from sale order by 1, 3;
select position, sqlstate, error, key from sequin.dead_letter;
delete from sequin.dead_letter;
-- updated, deleted, moved
select * from sequin_apply(batch(
    message('update', 'sale', '{"region": "eu", "id": 1, "amount": "1.50"}', '{"amount": "1.00"}'),
    message('delete', 'sale', '{"region": "us", "id": 1, "amount": null}'),
    message('update', 'sale', '{"region": "eu", "id": 2, "amount": "3.00"}', '{"region": "us"}')));
select tableoid::regclass, * from sale order by 1, 3;
-- partitions that come and go while the plans are kept
create table sale_mars partition of sale for values in ('mars');
select * from sequin_apply(batch(message('insert', 'sale', '{"region": "mars", "id": 1, "amount": "4.00"}')));
alter table sale detach partition sale_eu;
select * from sequin_apply(batch(
    message('insert', 'sale', '{"region": "mars", "id": 2, "amount": "5.00"}'), message('insert', 'sale', '{"region": "eu", "id": 1, "amount": "9.00"}')));
select tableoid::regclass, * from sale order by 1, 3;
select position, sqlstate, error from sequin.dead_letter order by id;
-- a partition key that is not in the key cannot be, but the rows of one partition can be the destination
select name from sequin.map('public.eu', 'sale_eu', guard => 'off');
select * from sequin_apply(batch(message('insert', 'eu', '{"region": "eu", "id": 7, "amount": "7.00"}')));
table sale_eu order by id;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema partitioned cascade;
drop table if exists sale_eu;
