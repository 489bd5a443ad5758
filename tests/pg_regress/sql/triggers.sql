-- Triggers of the destination are the database's: they fire, they can skip a row, they can refuse it.
create schema triggers;
set search_path = triggers, test, public;
create table item (id integer primary key, name text not null, note text);
create table seen (n serial, tg_op text, id integer, name text);
create function watch() returns trigger language plpgsql set search_path = triggers as $$
begin
    if new.name = 'skip' then
        return null;
    elsif new.name = 'custom' then
        raise exception 'no such name' using errcode = 'AB123', detail = 'Some detail.', hint = 'Some hint.';
    elsif new.name = 'serialize' then
        raise exception 'try again' using errcode = '40001';
    elsif new.name = 'change' then
        new.name = 'changed';
    end if;
    return new;
end $$;
create function note() returns trigger language plpgsql set search_path = triggers as $$
begin
    insert into seen (tg_op, id, name) values (tg_op, coalesce(new.id, old.id), new.name);
    return null;
end $$;
create trigger watch before insert or update on item for each row execute function watch();
create trigger note after insert or update or delete on item for each row execute function note();
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 1, "name": "one", "note": "long"}'), message('insert', 'item', '{"id": 2, "name": "change"}'),
    message('insert', 'item', '{"id": 3, "name": "three"}')));
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "uno"}', '{}'), message('delete', 'item', '{"id": 3, "name": null}')));
table item order by id;
select tg_op, id, name from seen order by n;

-- a row that a trigger skips is not written, and nothing is wrong with it
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "skip"}', '{}'), message('insert', 'item', '{"id": 4, "name": "skip"}'), message('insert', 'item', '{"id": 5, "name": "five"}')));
table item order by id;
-- also where only what is there can be updated, since a column that may not be null is not brought
alter table item add column body text;
update item set body = 'b';
alter table item alter column body set not null;
create function skip() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger skip before update on item for each row when (new.note = 'skip') execute function skip();
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "dos", "note": "skip", "body": "unchanged_toast"}', '{}'),
    message('update', 'item', '{"id": 2, "name": "zwei", "note": "write", "body": "unchanged_toast"}', '{}')));
table item order by id;
select count(*) from sequin.dead_letter;
drop trigger skip on item;
alter table item drop column body;

-- an error of a trigger's own is the message's
select * from sequin_apply(batch(
    message('update', 'item', '{"id": 1, "name": "custom"}', '{}'), message('insert', 'item', '{"id": 6, "name": "six"}')));
select position, sqlstate, error, detail, hint, state, key from sequin.dead_letter;
select id, name from item order by id;
-- a serialization failure is not: the whole call fails
\set VERBOSITY default
\set SHOW_CONTEXT never
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 7, "name": "seven"}'), message('insert', 'item', '{"id": 8, "name": "serialize"}')));
delete from sequin.dead_letter where mapping = 'item' returning mapping, sqlstate, error, state, hint;
\set VERBOSITY terse
select id from item order by id;
-- what is checked at commit is checked in the call
create table child (id integer primary key, item_id integer references item deferrable initially deferred);
select name from sequin.map('public.child', 'child', guard => 'off', name => 'child');
begin;
select * from sequin_apply(batch(message('insert', 'child', '{"id": 1, "item_id": 77}')));
commit;
select count(*) from child;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema triggers cascade;
