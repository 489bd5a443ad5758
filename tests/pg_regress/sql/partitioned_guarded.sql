-- Rows that move between partitions, with versions: by a value that is in the key, in any order.
create schema partitioned_guarded;
set search_path = partitioned_guarded, test, public;
create table sale (region text, id integer, amount numeric, primary key (region, id)) partition by list (region);
create table sale_eu partition of sale for values in ('eu');
create table sale_us partition of sale for values in ('us') partition by range (id);
create table sale_us_low partition of sale_us for values from (0) to (100);
create table sale_us_high partition of sale_us for values from (100) to (200);
create table sent (n integer primary key, message text);
insert into sent values
    (1, message('insert', 'sale', '{"region": "eu", "id": 1, "amount": 1}', lsn => 10)),
    (2, message('update', 'sale', '{"region": "us", "id": 1, "amount": 2}', '{"region": "eu", "amount": 1}', lsn => 20)),
    (3, message('update', 'sale', '{"region": "us", "id": 150, "amount": 3}', '{"id": 1, "amount": 2}', lsn => 30)),
    (4, message('insert', 'sale', '{"region": "eu", "id": 1, "amount": 4}', lsn => 40)),
    (5, message('update', 'sale', '{"region": "us", "id": 99, "amount": 5}', '{"region": "eu", "id": 1, "amount": 4}', lsn => 50)),
    (6, message('update', 'sale', '{"region": "us", "id": 250, "amount": 6}', '{"id": 150, "amount": 3}', lsn => 60)),
    (7, message('insert', 'sale', '{"region": "us", "id": 98, "amount": 7}', lsn => 70)),
    (8, message('delete', 'sale', '{"region": "us", "id": 98, "amount": null}', lsn => 80));
create function run(guard text, orders text) returns table (place regclass, region text, id integer, amount numeric) language plpgsql as $$
begin
    truncate sale, sequin.dead_letter;
    delete from sequin.mapping;
    perform sequin.map('public.sale', 'sale', guard => run.guard, name => 'sale');
    if orders = 'one batch' then
        perform sequin_apply((select batch(variadic array_agg(message order by md5(n::text))) from sent));
    elsif orders = 'backwards' then
        perform sequin_apply(message) from (select message from sent order by n desc) s;
    else
        perform sequin_apply(message) from (select message from sent order by n) s;
    end if;
    return query select s.tableoid::regclass, s.region, s.id, s.amount from sale s order by s.id;
end $$;
-- there is no partition for 250: the row stays where it was
select * from run('table', 'in order');
select mapping, sqlstate, state, key, error from sequin.dead_letter;
select * from run('table', 'backwards');
select mapping, sqlstate, state, key, error from sequin.dead_letter;
select * from run('table', 'one batch');
select mapping, sqlstate, state, key, error from sequin.dead_letter;
select * from run('columns', 'in order');
select * from run('columns', 'backwards');
select * from run('columns', 'one batch');
select mapping, sqlstate, state, key, error from sequin.dead_letter;
-- with a partition for it
create table sale_us_far partition of sale_us for values from (200) to (300);
select * from run('table', 'backwards');
select * from run('columns', 'one batch');
select count(*) from sequin.dead_letter;

delete from sequin.mapping;
drop schema partitioned_guarded cascade;
