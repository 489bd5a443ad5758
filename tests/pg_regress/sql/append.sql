-- mode append: every message becomes a row.
create schema append;
set search_path = append, test, public;
create table history (n bigint generated always as identity primary key, action text, id integer, name text, old_name text);
select (sequin.map('public.item', 'history', mode => 'append', name => 'history',
    columns => '{"action": "action", "id": "record.id", "name": "record.name", "old_name": "changes.name"}')).mode;
-- in the order of the batch, deletes too
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 1, "name": "one"}'),
    message('update', 'item', '{"id": 1, "name": "uno"}', '{"name": "one"}'),
    message('insert', 'item', '{"id": 2, "name": "two"}'),
    message('delete', 'item', '{"id": 1, "name": "uno"}'),
    message('read', 'item', '{"id": 2, "name": "two"}'),
    message('update', 'item', '{"id": 3, "name": "three"}', '{"id": 2}')));
select action, id, name, old_name from history order by n;

-- without a key a redelivery is another row
create table log (at text, id integer, name text);
select (sequin.map('public.log', 'log', mode => 'append')).mode;
create table sent as select message('insert', 'log', '{"id": 1, "name": "one"}', lsn => 100) as log,
    message('insert', 'keyed', '{"id": 1, "name": "one"}', lsn => 100) as one,
    message('delete', 'keyed', '{"id": 1, "name": "one"}', lsn => 101) as two;
select a.* from sent, sequin_apply(batch(log, log)) a;
select a.* from sent, sequin_apply(log) a;
select id, name, count(*) from log group by 1, 2;

-- with a unique key a redelivery is stale
create table keyed (lsn bigint, idx integer, id integer, name text, primary key (lsn, idx));
select (sequin.map('public.keyed', 'keyed', mode => 'append',
    columns => '{"lsn": "metadata.commit_lsn", "idx": "metadata.commit_idx", "*": "record.*"}')).mode;
select a.* from sent, sequin_apply(batch(one, one)) a;
select a.* from sent, sequin_apply(batch(one, two)) a;
table keyed order by 1, 2;
-- what the filter refuses is no row, and a poison message harms only itself
select (sequin.map('public.log', 'log', mode => 'append', filter => $$record->>'name' <> 'secret'$$)).mode;
select * from sequin_apply(batch(message('insert', 'log', '{"id": 2, "name": "secret"}'), message('insert', 'log', '{"id": "x", "name": "poison"}'),
    message('insert', 'log', '{"id": 3, "name": "good"}')));
select id, name from log where id > 1;
select position, sqlstate, error, key from sequin.dead_letter;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema append cascade;

-- The source's own key as the key of the log: its second change could not be appended.
create schema append_own_key;
set search_path = append_own_key, test, public;
create table log (id integer primary key, name text, at timestamptz default now());
create table pair (source text, id integer, name text, primary key (source, id));
create table numbered (n bigint generated always as identity primary key, id integer, name text);
create table positions (id integer, lsn bigint, idx integer, primary key (id, lsn, idx));
\set VERBOSITY default
select name from sequin.map('public.log', 'log', mode => 'append');
\set VERBOSITY terse
select name from sequin.map('public.pair', 'pair', mode => 'append', columns => '{"source": {"value": "s"}, "*": "record.*"}');
select name from sequin.map('public.numbered', 'numbered', mode => 'append', columns => '{"id": "record.id", "name": "record.name"}');
select name from sequin.map('public.positions', 'positions', mode => 'append',
    columns => '{"id": "record.id", "lsn": "metadata.commit_lsn", "idx": "metadata.commit_idx"}');
-- another unique index, and the action beside the source's own key
create table unique_id (id integer unique, name text);
create table by_action (id integer, action text, primary key (id, action));
select name from sequin.map('public.unique_id', 'unique_id', mode => 'append');
select name from sequin.map('public.by_action', 'by_action', mode => 'append', columns => '{"id": "record.id", "action": "action"}');
-- of the table, of SQL over the record, of record_pks, of some of the rows
create table by_table (t text, id integer, primary key (t, id));
create table by_sql (id integer primary key);
create table by_pks (pks text primary key);
create table of_some (id integer, name text);
create unique index of_some_id on of_some (id) where name <> '';
select name from sequin.map('public.by_table', 'by_table', mode => 'append', columns => '{"t": "metadata.table_name", "*": "record.*"}');
select name from sequin.map('public.by_sql', 'by_sql', mode => 'append', columns => '{"id": {"sql": "(record->>''id'')::integer"}}');
select name from sequin.map('public.by_pks', 'by_pks', mode => 'append', columns => '{"pks": "metadata.record_pks"}');
select name from sequin.map('public.of_some', 'of_some', mode => 'append');
-- the statement helps
alter table by_sql drop constraint by_sql_pkey, add column log_id bigint generated always as identity primary key;
select name from sequin.map('public.by_sql', 'by_sql', mode => 'append', name => 'by_sql', columns => '{"id": {"sql": "(record->>''id'')::integer"}}');
-- these tell changes apart
create table told (id integer, at timestamptz, made uuid, primary key (id, at));
create table made (id uuid primary key);
select name from sequin.map('public.told', 'told', mode => 'append', columns => '{"at": "metadata.commit_timestamp", "*": "record.*"}');
select name from sequin.map('public.made', 'made', mode => 'append', columns => '{"id": {"sql": "gen_random_uuid()"}}');
delete from sequin.mapping;
drop schema append_own_key cascade;
