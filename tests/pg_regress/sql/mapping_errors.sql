-- Each fault of a mapping alone, then several at once: SQLSTATE, message, DETAIL and HINT.
\set VERBOSITY default
\set SHOW_CONTEXT never
create schema mapping_errors;
set search_path = mapping_errors, public;
create table products (
    id integer primary key,
    name text,
    price numeric not null default 0,
    sku text unique deferrable,
    search text generated always as (lower(name)) stored,
    deleted_at timestamptz);
create unique index products_price on products (price) where price > 0;
create table bare (id integer, name text not null);
create table combined (id serial primary key, users_id uuid unique, orders_id uuid, data jsonb);
create view products_view as select * from products;
create materialized view products_matview as select * from products;
create sequence numbers;
create temporary table gone_tomorrow (id integer primary key);

-- source
select sequin.map('products', 'products');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('a.b.c.d', 'products');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public."products', 'products');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public. products', 'products');
\echo :LAST_ERROR_SQLSTATE
select sequin.map(null, 'products');
\echo :LAST_ERROR_SQLSTATE

-- destination
select sequin.map('public.products', 'product');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products_view');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products_matview');
select sequin.map('public.products', 'numbers');
select sequin.map('public.products', 'products_pkey');
select sequin.map('public.products', 'gone_tomorrow');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'sequin.dead_letter');
select sequin.map('public.products', 'pg_catalog.pg_class');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', null, key => '{id}', columns => '{"id": "record.id"}');
\echo :LAST_ERROR_SQLSTATE

-- words
select sequin.map('public.products', 'products', mode => 'merge');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', on_delete => 'hard');
select sequin.map('public.products', 'products', on_error => 'ignore');
select sequin.map('public.products', 'products', guard => 'on');
select sequin.map('public.products', 'products', name => '');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', mode => null);
\echo :LAST_ERROR_SQLSTATE

-- columns
select sequin.map('public.products', 'products', columns => '{"nmae": "record.name", "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"zzzzz": "record.name", "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"search": "record.search", "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '[]');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{}');
select sequin.map('public.products', 'products', columns => '{"id": 5, "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"id": "id", "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"id": "recrod.id", "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"name": "metadata.tabel_name", "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"name": "record.*", "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"name": {"sq": "1"}, "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"*": "changes.*"}');
select sequin.map('public.bare', 'bare', mode => 'append', columns => '{"id": "record.id"}');
\echo :LAST_ERROR_SQLSTATE

-- key
select sequin.map('public.products', 'products', key => '{nam}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', key => '{name}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', key => '{sku}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', key => '{price}');
select sequin.map('public.products', 'products', key => '{}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', key => '{id,id}');
select sequin.map('public.products', 'products', key => array[null]);
select sequin.map('public.bare', 'bare');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.bare', 'bare', key => '{name}');
select sequin.map('public.bare', 'bare', key => '{id}');
select sequin.map('public.users', 'combined', columns => '{"users_id": "record.id", "data": "record"}');
\echo :LAST_ERROR_SQLSTATE

-- soft delete
select sequin.map('public.products', 'products', on_delete => 'soft');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', soft_delete => 'deleted_at');
select sequin.map('public.products', 'products', on_delete => 'soft', soft_delete => 'deletd_at');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', on_delete => 'soft', soft_delete => 'name');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', on_delete => 'soft', soft_delete => 'deleted_at', mode => 'append');
\echo :LAST_ERROR_SQLSTATE

-- guard
insert into sequin.mapping (source, destination, guard) values ('public.products', 'products', 'columns');
\echo :LAST_ERROR_SQLSTATE
alter table products add sequin_lsn integer;
select sequin.map('public.products', 'products', guard => 'columns');
\echo :LAST_ERROR_SQLSTATE
alter table products drop sequin_lsn;

-- SQL: the server's own words
select sequin.map('public.products', 'products', columns => '{"name": {"sql": "lower(recrod->>''name'')"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"name": {"sql": "lower(record->>''name''"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"name": {"sql": "lower(record)"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"id": {"sql": "record->>''id''"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"id": {"sql": "''x''"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"name": {"sql": "max(action)"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', columns => '{"name": {"sql": "first_value(action) over ()"}, "*": "record.*"}');
select sequin.map('public.products', 'products', columns => '{"id": {"sql": "generate_series(1, 2)"}, "*": "record.*"}');
select sequin.map('public.products', 'products', filter => 'record->>''active''');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', filter => 'count(*) > 1');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', filter => '  ');
\echo :LAST_ERROR_SQLSTATE

-- SQL stays where it is put
select sequin.map('public.products', 'products', filter => 'true) or (true');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', filter => 'true; drop table products');
\echo :LAST_ERROR_SQLSTATE
select sequin.map('public.products', 'products', filter => 'true;');
select sequin.map('public.products', 'products', filter => 'true from products');
select sequin.map('public.products', 'products', filter => 'true, true');
select sequin.map('public.products', 'products', filter => 'true as t');
select sequin.map('public.products', 'products', filter => 'distinct true');
select sequin.map('public.products', 'products', filter => 'all true');
select sequin.map('public.products', 'products', filter => 'true union select false');
select sequin.map('public.products', 'products', filter => 'true /* and');
select sequin.map('public.products', 'products', filter => '''true');
select sequin.map('public.products', 'products', filter => '$1');
select sequin.map('public.products', 'products', columns => '{"name": {"sql": "b.*"}, "*": "record.*"}');
\echo :LAST_ERROR_SQLSTATE

-- everything at once
select sequin.map('products', 'products',
    columns => '{"nmae": "record.name", "id": {"sql": "recrod"}, "price": 5, "search": "record.s"}',
    key => '{name}', filter => '1', mode => 'merge', on_delete => 'soft', guard => 'columns', name => 'm');
\echo :LAST_ERROR_SQLSTATE
-- nothing of it stayed
select count(*) from sequin.mapping where source in ('products', 'public.products', 'public.bare', 'public.users');

-- names that do not exist
select name from sequin.map('public.products', 'products', name => 'products', guard => 'table');
select sequin.unmap('product');
\echo :LAST_ERROR_SQLSTATE
select sequin.unmap(null);
\echo :LAST_ERROR_SQLSTATE
select sequin.unmap('products');
select sequin.unmap('products');

-- mappings that write the same rows
create table shared (id integer primary key, name text, city text);
select name from sequin.map('public.people', 'shared', guard => 'table', columns => '{"id": "record.id", "name": "record.name"}');
select name from sequin.map('public.*', 'shared', guard => 'table', name => 'every');
\echo :LAST_ERROR_SQLSTATE
select name from sequin.map('public.people', 'shared', guard => 'table', name => 'filtered', filter => 'true');
\echo :LAST_ERROR_SQLSTATE
select name from sequin.map('public.homes', 'shared', guard => 'columns', name => 'homes', columns => '{"id": "record.id", "city": "record.city"}');
\echo :LAST_ERROR_SQLSTATE
select name from sequin.map('public.homes', 'shared', guard => 'table', name => 'homes', columns => '{"id": "record.id", "city": "record.city"}');
select name from sequin.map('public.staff', 'shared', guard => 'table', name => 'staff', columns => '{"id": "record.id", "name": "record.name"}');
delete from sequin.mapping where destination = 'shared'::regclass;
select name from sequin.map('public.people', 'shared', guard => 'columns');
select name from sequin.map('public.staff', 'shared', guard => 'columns', name => 'staff');
\echo :LAST_ERROR_SQLSTATE
delete from sequin.mapping where destination = 'shared'::regclass;

-- a schema: the faults of all its tables
select sequin.map_schema('public', 'mapping_error');
\echo :LAST_ERROR_SQLSTATE
create table also_bare (id integer not null);
select sequin.map_schema('public', 'mapping_errors');
\echo :LAST_ERROR_SQLSTATE
create schema mapping_errors_empty;
select sequin.map_schema('public', 'mapping_errors_empty');
\echo :LAST_ERROR_SQLSTATE

set client_min_messages = warning;
drop schema mapping_errors, mapping_errors_empty cascade;
