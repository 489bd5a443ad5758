-- The table sequin.mapping is the catalog: insert, update and delete are checked as sequin.map is.
\set VERBOSITY default
\set SHOW_CONTEXT never
set client_min_messages = notice;
create schema mapping_catalog;
set search_path = mapping_catalog, public;
create table orders (id integer primary key, status text, total numeric, note text);
create table shipments (id integer primary key, status text);
create view mine as
    select name, source, destination, columns, key, filter, mode, on_delete, soft_delete, on_error, guard,
           enabled, search_path
    from sequin.mapping where source like 'cat.%' order by id;

-- what is left out is filled in
insert into sequin.mapping (source, destination) values ('cat.orders', 'orders');
\x
table mine;
select owner = current_user::regrole as owned, created_at <= now() as made from sequin.mapping where source = 'cat.orders';
\x
-- a name is given once
insert into sequin.mapping (source, destination) values ('cat.orders', 'orders');
\echo :LAST_ERROR_SQLSTATE
insert into sequin.mapping (source, destination) values ('cat."orders"', 'orders');
\echo :LAST_ERROR_SQLSTATE
insert into sequin.mapping (source, destination) values ('cat."or.ders"', 'orders'), ('cat.audit', null);
select name from mine;

-- the same checks
insert into sequin.mapping (source, destination, columns) values ('cat.x', 'orders', '{"statsu": "record.s", "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set key = '{status}' where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set columns = '{"total": {"sql": "record"}, "*": "record.*"}' where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set mode = 'merge', guard = 'on' where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set source = null where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE
update sequin.mapping set columns = columns || '{"note": {"sql": "record->>''n'' -- the note"}}'
where source = 'cat.audit';
update sequin.mapping set columns = '{"note": {"sql": "record->>''n'' -- the note"}, "*": "record.*"}'
where source = 'cat.orders' returning columns;

-- numbers keep every digit
update sequin.mapping set columns = '{"total": {"value": 12345678901234567890.1234567890}, "*": "record.*"}'
where source = 'cat.orders' returning columns;

-- SQL is read under the search_path of the session that wrote it
create schema mapping_catalog_other;
create function mapping_catalog_other.shout(text) returns text language sql immutable as 'select upper($1)';
update sequin.mapping set filter = 'shout(action) = ''INSERT''' where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE
set search_path = mapping_catalog_other, mapping_catalog, public;
update sequin.mapping set filter = 'shout(action) = ''INSERT''' where source = 'cat.orders' returning search_path;
set search_path = mapping_catalog, public;
-- and keeps it while the SQL stays
update sequin.mapping set on_delete = 'ignore' where source = 'cat.orders' returning search_path;
select search_path from sequin.map('cat.orders', 'orders', filter => 'mapping_catalog_other.shout(action) = ''INSERT''', guard => 'table');
-- a path can be given
update sequin.mapping set filter = 'shout(action) = ''DELETE''', search_path = 'mapping_catalog_other'
where source = 'cat.orders' returning search_path;
update sequin.mapping set search_path = 'mapping_catalog' where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE

-- a mapping that fits no longer can be paused, renamed and removed, but not resumed
alter table orders drop constraint orders_pkey;
update sequin.mapping set enabled = false, name = 'cat paused' where source = 'cat.orders' returning name, enabled;
update sequin.mapping set enabled = true where source = 'cat.orders';
\echo :LAST_ERROR_SQLSTATE
alter table orders add primary key (id);
update sequin.mapping set enabled = true where source = 'cat.orders' returning enabled;

-- sequin.map replaces the mapping of its name, whose id stays
select id as first_id from sequin.map('cat.shipments', 'shipments', guard => 'off', name => 'cat shipments') \gset
select id = :first_id as same, guard, source from sequin.map('cat.shipments_2', 'shipments', guard => 'table', name => 'cat shipments');

-- guard columns are added when asked for, once
select guard from sequin.map('cat.shipments', 'shipments', name => 'cat shipments');
select guard from sequin.map('cat.shipments', 'shipments', guard => 'columns', name => 'cat shipments');
select guard from sequin.map('cat.shipments', 'shipments', guard => 'columns', name => 'cat shipments');
select guard from sequin.map('cat.shipments', 'shipments', name => 'cat shipments');
select attname, atttypid::regtype from pg_attribute where attrelid = 'shipments'::regclass and attnum > 0 order by attnum;
update sequin.mapping set columns = '{"sequin_lsn": "metadata.commit_lsn", "*": "record.*"}' where name = 'cat shipments';
\echo :LAST_ERROR_SQLSTATE

-- a schema at once; what is mapped stays as it is
create table parts (id integer, at date, primary key (id, at)) partition by range (at);
create table parts_2026 partition of parts for values from ('2026-01-01') to ('2027-01-01');
create table "odd.name" (id integer primary key);
update sequin.mapping set filter = 'true', name = 'kept' where name = 'cat shipments';
select name, source, filter, guard from sequin.map_schema('cat', 'mapping_catalog');
select count(*) from sequin.map_schema('cat', 'mapping_catalog');

delete from sequin.mapping where source like 'cat.%';
select count(*) from mine;
set client_min_messages = warning;
drop schema mapping_catalog, mapping_catalog_other cascade;
