-- What a delete does: delete, ignore, or mark the row.
create schema on_delete;
set search_path = on_delete, test, public;
set datestyle = iso;
set timezone = 'UTC';
create table deleting (id integer primary key, name text);
create table ignoring (like deleting including all);
create table soft_timestamptz (like deleting including all, gone timestamptz);
create table soft_timestamp (like deleting including all, gone timestamp);
create table soft_boolean (like deleting including all, gone boolean not null default false);
select (sequin.map('public.t', 'deleting', guard => 'off')).on_delete;
select (sequin.map('public.t', 'ignoring', guard => 'off', on_delete => 'ignore')).on_delete;
select (sequin.map('public.t', t, guard => 'off', on_delete => 'soft', soft_delete => 'gone')).on_delete
from unnest('{soft_timestamptz,soft_timestamp,soft_boolean}'::regclass[]) t;
create view rows as
    select 'deleting' as t, *, null as gone from deleting union all select 'ignoring', *, null from ignoring
    union all select 'soft_timestamptz', id, name, gone::text from soft_timestamptz
    union all select 'soft_timestamp', id, name, gone::text from soft_timestamp
    union all select 'soft_boolean', id, name, gone::text from soft_boolean order by 1, 2;

select * from sequin_apply(batch(
    message('insert', 't', '{"id": 1, "name": "one", "gone": "2020-01-01"}'),
    message('insert', 't', '{"id": 2, "name": "two"}')));
table rows;
-- the mark is the time of the delete, by commit_timestamp
select * from sequin_apply(batch(
    message('delete', 't', '{"id": 1, "name": null}', metadata => '{"commit_timestamp": "2026-03-01T12:00:00.250000Z"}'),
    message('delete', 't', '{"id": 9, "name": null}', metadata => '{"commit_timestamp": "2026-03-01T12:00:00Z"}')));
table rows;
-- a row that comes back has no mark
select * from sequin_apply(batch(message('insert', 't', '{"id": 1, "name": "one again"}')));
table rows;
-- in one batch
select * from sequin_apply(batch(
    message('delete', 't', '{"id": 1, "name": null}'), message('insert', 't', '{"id": 1, "name": "thrice"}'),
    message('update', 't', '{"id": 2, "name": "zwei"}', '{}'),
    message('delete', 't', '{"id": 2, "name": null}', metadata => '{"commit_timestamp": "2026-04-01T12:00:00Z"}')));
table rows;
-- as if they came one by one: a row that is inserted and deleted in one batch is there, marked
select * from sequin_apply(batch(
    message('insert', 't', '{"id": 3, "name": "three"}'),
    message('delete', 't', '{"id": 3, "name": null}', metadata => '{"commit_timestamp": "2026-05-01T12:00:00Z"}')));
select * from rows where id = 3;

select count(*) from sequin.dead_letter;
delete from sequin.mapping;
drop schema on_delete cascade;

-- a marked row keeps its values in unique indexes: sequin.map warns
create schema marked;
create table marked.person (id integer primary key, email text unique, gone boolean);
select (sequin.map('public.person', 'marked.person', on_delete => 'soft', soft_delete => 'gone')).on_delete;
delete from sequin.mapping;
drop schema marked cascade;
