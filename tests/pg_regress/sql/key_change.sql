-- Under REPLICA IDENTITY FULL an update that changes the key has the old one in its changes: the row moves.
create schema key_change;
set search_path = key_change, test, public;
create table item (id integer primary key, name text not null check (name <> 'poison'), note text default 'default');
create function state() returns text language sql as
    $$ select string_agg(concat_ws(' ', id, name, note), ', ' order by id) from item $$;
create function restart() returns void language sql as
    $$ truncate item, sequin.dead_letter; insert into item values (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c') $$;
create procedure check_key_changes() language plpgsql as $$
declare
    r record;
begin
    raise warning 'one row moves';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "ten", "note": "a"}', '{"id": 1, "name": "one"}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'nothing moves: the same key in the changes';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 1, "name": "uno", "note": "a"}', '{"id": 1, "name": "one"}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'to a key that is there not any more';
    perform restart();
    select * from sequin_apply(batch(message('delete', 'item', '{"id": 2, "name": "two", "note": "b"}'),
                                     message('update', 'item', '{"id": 2, "name": "one", "note": "a"}', '{"id": 1}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'a chain';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "one", "note": "a"}', '{"id": 1}'),
                                     message('update', 'item', '{"id": 11, "name": "one", "note": "a"}', '{"id": 10}'),
                                     message('update', 'item', '{"id": 12, "name": "uno", "note": "a"}', '{"id": 11, "name": "one"}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'a chain that ends in a delete';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "one", "note": "a"}', '{"id": 1}'),
                                     message('delete', 'item', '{"id": 10, "name": "one", "note": "a"}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'there and back';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "one", "note": "a"}', '{"id": 1}'),
                                     message('update', 'item', '{"id": 1, "name": "uno", "note": "a"}', '{"id": 10, "name": "one"}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'a swap through a temporary key';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 99, "name": "one", "note": "a"}', '{"id": 1}'),
                                     message('update', 'item', '{"id": 1, "name": "two", "note": "b"}', '{"id": 2}'),
                                     message('update', 'item', '{"id": 2, "name": "one", "note": "a"}', '{"id": 99}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'all move up, the last first';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 4, "name": "three", "note": "c"}', '{"id": 3}'),
                                     message('update', 'item', '{"id": 3, "name": "two", "note": "b"}', '{"id": 2}'),
                                     message('update', 'item', '{"id": 2, "name": "one", "note": "a"}', '{"id": 1}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'a move that fails has no effect at the old key';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "poison", "note": "a"}', '{"id": 1, "name": "one"}'),
                                     message('update', 'item', '{"id": 2, "name": "zwei", "note": "b"}', '{"name": "two"}'))) into r;
    raise warning '%: %', r, state();
    raise warning 'the end of a chain fails: the row stays where the chain was before';
    perform restart();
    select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "ten", "note": "a"}', '{"id": 1, "name": "one"}'),
                                     message('update', 'item', '{"id": 11, "name": "poison", "note": "a"}', '{"id": 10, "name": "ten"}'))) into r;
    raise warning '%: %', r, state();
end $$;
-- (received,upserted,deleted,collapsed,stale,filtered,ignored,dead): rows
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
call check_key_changes();

-- Under REPLICA IDENTITY DEFAULT nobody knows the old key: the row is at both.
select restart();
select * from sequin_apply(batch(message('update', 'item', '{"id": 10, "name": "one", "note": "a"}', '{}')));
select state();

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema key_change cascade;
