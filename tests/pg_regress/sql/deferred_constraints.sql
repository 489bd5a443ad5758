-- What the destination checks at commit is checked in the call, where it can be told whose fault it is.
create schema deferred_constraints;
set search_path = deferred_constraints, test, public;
create table parent (id integer primary key, name text unique deferrable initially deferred);
create table child (id integer primary key, parent_id integer references parent deferrable initially deferred);
create function positive() returns trigger language plpgsql as $$
begin
    if new.id < 0 then raise exception 'id % is negative', new.id using errcode = 'check_violation'; end if;
    return null;
end $$;
create constraint trigger positive after insert or update on child deferrable initially deferred
    for each row execute function positive();
select (sequin.map('public.parent', 'parent', guard => 'table', name => 'parent')).name,
       (sequin.map('public.child', 'child', guard => 'columns', name => 'child')).name;
-- children first, parents after, a name that changes hands
select * from sequin_apply(batch(
    message('insert', 'child', '{"id": 1, "parent_id": 1}'),
    message('insert', 'parent', '{"id": 1, "name": "a"}'), message('insert', 'parent', '{"id": 2, "name": "b"}')));
select * from sequin_apply(batch(
    message('update', 'parent', '{"id": 1, "name": "b"}', '{}'), message('update', 'parent', '{"id": 2, "name": "a"}', '{}')));
select p.*, c.id as child from parent p left join child c on c.parent_id = p.id order by p.id;
-- one of each kind that fails, each alone
begin;
select * from sequin_apply(batch(
    message('insert', 'child', '{"id": 2, "parent_id": 2}'), message('insert', 'child', '{"id": 3, "parent_id": 33}'),
    message('insert', 'child', '{"id": -4, "parent_id": 1}'), message('insert', 'parent', '{"id": 5, "name": "a"}'),
    message('insert', 'parent', '{"id": 6, "name": "f"}'), message('delete', 'parent', '{"id": 1, "name": null}')));
commit;
select p.*, c.id as child from parent p left join child c on c.parent_id = p.id order by p.id;
select position, mapping, sqlstate, state, key from sequin.dead_letter order by position;
delete from sequin.dead_letter;
-- also if the caller has deferred or undeferred them
begin;
set constraints all deferred;
select * from sequin_apply(batch(message('insert', 'child', '{"id": 7, "parent_id": 77}'), message('insert', 'child', '{"id": 8, "parent_id": 2}')));
set constraints all immediate;
select * from sequin_apply(batch(message('insert', 'child', '{"id": 9, "parent_id": 99}'), message('insert', 'child', '{"id": 10, "parent_id": 2}')));
commit;
select id from child order by id;
select position, mapping, sqlstate, state, key from sequin.dead_letter order by id;
-- a fault that the caller has left behind in its transaction is the caller's: the call fails, and it is told
begin;
set constraints all deferred;
insert into child values (50, 500);
select * from sequin_apply(batch(message('insert', 'child', '{"id": 11, "parent_id": 2}')));
rollback;
select count(*) from child where id in (11, 50);
delete from sequin.dead_letter;

delete from sequin.mapping;
drop schema deferred_constraints cascade;
