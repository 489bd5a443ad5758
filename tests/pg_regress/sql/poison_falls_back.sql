-- Where the newest message of a row cannot be written, the one before it is applied.
create schema poison_falls_back;
set search_path = poison_falls_back, test, public;
create table item (id integer primary key, name text check (name <> 'poison'), n integer);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
insert into item values (5, 'five', 1), (6, 'six', 1), (7, 'seven', 1);
select * from sequin_apply(batch(
    -- the server refuses the newest
    message('insert', 'item', '{"id": 1, "name": "good", "n": 1}'),
    message('update', 'item', '{"id": 1, "name": "poison", "n": 2}', '{}'),
    -- the newest cannot be cast
    message('insert', 'item', '{"id": 2, "name": "good", "n": 1}'),
    message('update', 'item', '{"id": 2, "name": "better", "n": 2}', '{}'),
    message('update', 'item', '{"id": 2, "name": "bad", "n": "x"}', '{}'),
    -- only the middle one is poison: nobody notices, it was collapsed
    message('insert', 'item', '{"id": 3, "name": "good", "n": 1}'),
    message('update', 'item', '{"id": 3, "name": "poison", "n": 2}', '{}'),
    message('update', 'item', '{"id": 3, "name": "better", "n": 3}', '{}'),
    -- all are
    message('insert', 'item', '{"id": 4, "name": "poison", "n": 1}'),
    message('update', 'item', '{"id": 4, "name": "poison", "n": 2}', '{}'),
    -- a delete before it
    message('delete', 'item', '{"id": 5, "name": null, "n": null}'),
    message('insert', 'item', '{"id": 5, "name": "poison", "n": 2}'),
    -- a delete after it
    message('update', 'item', '{"id": 6, "name": "poison", "n": 2}', '{}'),
    message('delete', 'item', '{"id": 6, "name": null, "n": null}'),
    -- the row was there before the batch
    message('update', 'item', '{"id": 7, "name": "poison", "n": 2}', '{}')));
table item order by id;
select position, sqlstate, key from sequin.dead_letter order by position;

-- one poison message among many
truncate item, sequin.dead_letter;
select a.* from sequin_apply((select batch(variadic array_agg(message('insert', 'item',
    json_build_object('id', n, 'name', case when n in (1, 77, 500, 1000) then 'poison' else 'good' end, 'n', n)) order by n))
    from generate_series(1, 1000) n)) a;
select count(*), sum(n) from item;
select position, key from sequin.dead_letter order by position;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema poison_falls_back cascade;
