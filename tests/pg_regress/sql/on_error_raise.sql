-- on_error => 'raise': the first failure fails the call, and nothing of it is applied.
create schema on_error_raise;
set search_path = on_error_raise, test, public;
create table item (id integer primary key, name text not null);
create table other (id integer primary key, name text not null);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item', on_error => 'raise');
select name from sequin.map('public.other', 'other', guard => 'off', name => 'other');
select * from sequin_apply(batch(message('insert', 'item', '{"id": 1, "name": "one"}')));
\set VERBOSITY default
-- a value that cannot be cast
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 2, "name": "two"}'),
    message('insert', 'other', '{"id": 1, "name": null}'),
    message('insert', 'item', '{"id": "x", "name": "three"}')));
\echo :LAST_ERROR_SQLSTATE
-- a constraint
\set SHOW_CONTEXT never
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 2, "name": "two"}'),
    message('update', 'item', '{"id": 1, "name": null}', '{}')));
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
table item;
select count(*) from sequin.dead_letter;
-- the other mapping's failures are its own
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 2, "name": "two"}'),
    message('insert', 'other', '{"id": 1, "name": null}')));
table item order by id;
select position, mapping, sqlstate from sequin.dead_letter;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema on_error_raise cascade;
