-- Rules and row security that would refuse every row are said when the mapping is made.
create schema mapping_obstacles;
set search_path = mapping_obstacles, test, public;
create role mapping_obstacles_owner;
grant usage on schema mapping_obstacles to mapping_obstacles_owner;
grant execute on function sequin.map, sequin.unmap to mapping_obstacles_owner;
grant select on sequin.mapping to mapping_obstacles_owner;
select sequin.grant_source('*.*', 'mapping_obstacles_owner');
\set VERBOSITY default
\set SHOW_CONTEXT never
create table ruled (id integer primary key, name text);
create rule "No deletes" as on delete to ruled do instead nothing;
create rule also as on insert to ruled do also notify ruled;
select name from sequin.map('public.ruled', 'ruled');
\echo :LAST_ERROR_SQLSTATE
-- a rule that is disabled, or for a command that the mapping does not run, is no obstacle
alter table ruled disable rule also;
select name from sequin.map('public.ruled', 'ruled', mode => 'append');
drop rule "No deletes" on ruled;
select name from sequin.map('public.ruled', 'ruled', name => 'right');

create table secured (id integer primary key, name text);
alter table secured enable row level security;
grant select, insert, update, delete on secured to mapping_obstacles_owner;
set role mapping_obstacles_owner;
select name from sequin.map('public.secured', 'secured', name => 'secured');
\echo :LAST_ERROR_SQLSTATE
reset role;
create policy reads on secured for select using (true);
create policy others on secured for insert to pg_monitor with check (true);
create policy restricts on secured as restrictive for update using (true);
set role mapping_obstacles_owner;
select name from sequin.map('public.secured', 'secured', name => 'secured', on_delete => 'ignore');
reset role;
create policy writes on secured for insert to mapping_obstacles_owner with check (id > 0);
create policy changes on secured for update to public using (id > 0);
set role mapping_obstacles_owner;
select name from sequin.map('public.secured', 'secured', name => 'secured', on_delete => 'ignore');
reset role;
-- row security does not apply to the table's owner, unless it is forced
create table own (id integer primary key);
alter table own enable row level security;
alter table own owner to mapping_obstacles_owner;
set role mapping_obstacles_owner;
select name from sequin.map('public.own', 'own', name => 'own');
alter table own force row level security;
select name from sequin.map('public.own', 'own', name => 'forced');
reset role;

-- a publication sends updates and deletes, which need a replica identity
create table published (id integer not null, other integer, name text);
create unique index published_id on published (id);
create unique index published_other on published (other);
create publication changes for table published;
select name from sequin.map('public.published', 'published', key => '{id}', name => 'published');
\echo :LAST_ERROR_SQLSTATE
select name from sequin.map('public.published', 'published', mode => 'append', name => 'log');
alter publication changes set (publish = 'insert, delete');
alter table published add primary key (other);
select name from sequin.map('public.published', 'published', name => 'published');
alter table published drop constraint published_pkey;
select name from sequin.map('public.published', 'published', key => '{id}', on_delete => 'ignore', name => 'published');
drop publication changes;
create table parted (id integer, name text, unique (id)) partition by list (id);
create table parted_1 partition of parted for values in (1);
create publication whole for tables in schema mapping_obstacles;
select name from sequin.map('public.parted', 'parted', key => '{id}', name => 'parted');
alter table parted_1 replica identity full;
select name from sequin.map('public.parted', 'parted', key => '{id}', name => 'parted');
-- it breaks a mapping that is there, too
alter table parted_1 replica identity default;
select * from sequin_apply(batch(message('insert', 'parted', '{"id": 1, "name": "a"}')));
select state, sqlstate, hint from sequin.status where name = 'parted';
delete from sequin.dead_letter;
drop publication whole;

-- guard columns of one partition
select name from sequin.map('public.parted', 'parted_1', key => '{id}', guard => 'columns', name => 'one');
\echo :LAST_ERROR_SQLSTATE

-- a foreign partition
create foreign data wrapper nothing;
create server nowhere foreign data wrapper nothing;
create table half (id integer, name text) partition by list (id);
create foreign table half_1 partition of half for values in (1) server nowhere;
select name from sequin.map('public.half', 'half', key => '{id}', name => 'half');

-- an access method that has inserts alone
create access method columnar type table handler heap_tableam_handler;
create table columns (id integer primary key) using columnar;
select name from sequin.map('public.columns', 'columns', name => 'columns');
\echo :LAST_ERROR_SQLSTATE
select name from sequin.map('public.columns', 'columns', mode => 'append', name => 'columns');
\set VERBOSITY terse
delete from sequin.mapping;
drop schema mapping_obstacles cascade;
drop access method columnar;
drop foreign data wrapper nothing cascade;
revoke all on sequin.mapping from mapping_obstacles_owner;
drop owned by mapping_obstacles_owner;
drop role mapping_obstacles_owner;
