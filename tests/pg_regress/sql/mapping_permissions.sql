-- Who may map what, and who sees it.
\set VERBOSITY default
\set SHOW_CONTEXT never
create schema mapping_permissions;
create role mapping_alice;
create role mapping_bob;
create role mapping_carol in role mapping_alice;
create role mapping_dave;
grant create, usage on schema mapping_permissions to mapping_alice;
set search_path = mapping_permissions, public;
create table ours (id integer primary key, name text);

-- a role without privileges on the catalog
set role mapping_dave;
select sequin.map('perm.a', null);
\echo :LAST_ERROR_SQLSTATE
reset role;
-- the recipe
grant select, insert, update, delete on sequin.mapping to mapping_alice, mapping_bob;
grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to mapping_alice, mapping_bob;
select sequin.grant_source('*.*', 'mapping_alice');
select sequin.grant_source('*.*', 'mapping_bob');
grant select, delete on sequin.dead_letter to mapping_alice;

-- the owner needs the privileges that writing needs
set role mapping_bob;
select sequin.map('perm.a', 'mapping_permissions.ours');
reset role;
grant usage on schema mapping_permissions to mapping_bob;
set role mapping_bob;
select sequin.map('perm.a', 'ours');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('perm.a', 'ours', mode => 'append');
reset role;
grant select, insert, update on ours to mapping_bob;
set role mapping_bob;
select sequin.map('perm.a', 'ours');
select name, owner from sequin.map('perm.a', 'ours', on_delete => 'ignore', guard => 'table', name => 'perm bob');
-- columns for the guard are the table's owner's to add
select sequin.map('perm.a', 'ours', on_delete => 'ignore', guard => 'columns', name => 'perm bob');
\echo :LAST_ERROR_SQLSTATE
reset role;

-- what one owns, and only that
set role mapping_alice;
create table hers (id integer primary key);
select name, owner from sequin.map('perm.b', 'hers', guard => 'table', name => 'perm alice');
select name from sequin.mapping;
update sequin.mapping set enabled = false;
delete from sequin.mapping where name = 'perm bob';
select sequin.unmap('perm bob');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('perm.b', 'hers', guard => 'table', name => 'perm bob');
\echo :LAST_ERROR_SQLSTATE
insert into sequin.mapping (source, destination, owner) values ('perm.c', 'hers', 'mapping_bob');
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set owner = 'mapping_bob' where name = 'perm alice';
\echo :LAST_ERROR_SQLSTATE
insert into sequin.mapping (source, destination, owner, name) values ('perm.c', 'hers', 'mapping_alice', 'perm alice 2');
reset role;
-- members of the owner as the owner
set role mapping_carol;
select name, enabled from sequin.mapping where name like 'perm%' order by name;
update sequin.mapping set enabled = true where name = 'perm alice' returning owner, enabled;
select count(*) from sequin.dead_letter;
reset role;
-- a superuser all; a mapping that is replaced keeps its owner
select name, owner, enabled from sequin.mapping where name like 'perm%' order by name;
select owner from sequin.map('perm.b', 'hers', guard => 'off', name => 'perm alice');
update sequin.mapping set owner = 'mapping_bob' where name = 'perm alice';
\echo :LAST_ERROR_SQLSTATE
-- SQL is checked as the owner
create schema mapping_secret;
create function mapping_secret.f() returns boolean language sql as 'select true';
update sequin.mapping set filter = 'mapping_secret.f()' where name = 'perm alice';
\echo :LAST_ERROR_SQLSTATE

-- dead letters are seen with their mapping
insert into sequin.dead_letter (mapping, message, sqlstate, error, position)
values ('perm alice', '{}', '22P02', 'x', 0), ('perm bob', '{}', '22P02', 'x', 0), (null, '{}', '22023', 'x', 0);
set role mapping_alice;
select mapping from sequin.dead_letter;
reset role;

delete from sequin.dead_letter where sqlstate in ('22P02', '22023') and error = 'x';
delete from sequin.mapping where name like 'perm%';
set client_min_messages = warning;
drop schema mapping_permissions, mapping_secret cascade;
revoke all on sequin.mapping, sequin.dead_letter from mapping_alice, mapping_bob;
drop owned by mapping_alice, mapping_bob;
drop role mapping_alice, mapping_bob, mapping_carol, mapping_dave;
