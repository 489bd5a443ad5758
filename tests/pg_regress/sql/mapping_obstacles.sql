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
\set VERBOSITY terse
delete from sequin.mapping;
drop schema mapping_obstacles cascade;
revoke all on sequin.mapping from mapping_obstacles_owner;
drop owned by mapping_obstacles_owner;
drop role mapping_obstacles_owner;
