-- Triggers that skip or refuse rows, with versions: what a trigger skips was applied as far as anybody can tell, and what it
-- refuses may come again.
create schema triggers_guarded;
set search_path = triggers_guarded, test, public;
create table in_columns (id integer primary key, name text, note text);
create table in_table (like in_columns including all);
create function act() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        if old.name = 'keep' then return null; end if;
        return old;
    end if;
    if new.name = 'skip' then return null; end if;
    if new.name = 'refuse' then raise exception 'refused'; end if;
    return new;
end $$;
create trigger act before insert or update or delete on in_columns for each row execute function act();
create trigger act before insert or update or delete on in_table for each row execute function act();
select name from sequin.map('public.item', 'in_columns', guard => 'columns', name => 'columns');
select name from sequin.map('public.item', 'in_table', guard => 'table', name => 'table');
create view both_tables as select 'columns' as guard, id, name, note from in_columns union all select 'table', id, name, note from in_table;
-- inserts, skipped and refused
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 1, "name": "one", "note": "a"}', lsn => 10),
    message('insert', 'item', '{"id": 2, "name": "skip", "note": "a"}', lsn => 11),
    message('insert', 'item', '{"id": 3, "name": "refuse", "note": "a"}', lsn => 12),
    message('insert', 'item', '{"id": 4, "name": "keep", "note": "a"}', lsn => 13)));
table both_tables order by id, guard;
select mapping, position, sqlstate, state, key from sequin.dead_letter order by mapping;
-- an update that is skipped, one that is refused; a delete that is skipped
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "skip", "note": "b"}', '{}', lsn => 20),
    message('update', 'item', '{"id": 4, "name": "refuse", "note": "b"}', '{}', lsn => 21)));
select * from sequin_apply(batch(message('delete', 'item', '{"id": 4, "name": null, "note": null}', lsn => 22)));
table both_tables order by id, guard;
-- the next change applies to all of them
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "two", "note": "c"}', '{}', lsn => 30),
    message('update', 'item', '{"id": 2, "name": "two", "note": "c"}', '{}', lsn => 31),
    message('update', 'item', '{"id": 3, "name": "two", "note": "c"}', '{}', lsn => 32),
    message('insert', 'item', '{"id": 4, "name": "two", "note": "c"}', lsn => 33)));
table both_tables order by id, guard;
-- a statement trigger that raises is no message's fault: the mapping is broken, and its messages wait
create function refuse_all() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
create trigger closed before insert or update on in_columns for each statement execute function refuse_all();
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "three", "note": "d"}', '{}', lsn => 40),
    message('update', 'item', '{"id": 2, "name": "three", "note": "d"}', '{}', lsn => 41)));
select mapping, position, error, state from sequin.dead_letter where error like '%closed' order by position;
table both_tables order by id, guard;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema triggers_guarded cascade;
