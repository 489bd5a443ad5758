-- What is not a message is a dead letter with its text; what is not JSON fails the call, with its place.
create schema envelopes_dead;
set search_path = envelopes_dead, test, public;
create table item (id integer primary key, name text);
select name from sequin.map('public.item', 'item', guard => 'off');
\set good '{"action":"insert","record":{"id":1},"metadata":{"table_schema":"public","table_name":"item","commit_lsn":1,"commit_idx":0}}'
\set bad '"plain", 42, null, true, [], {}, {"id":7,"name":"bare record"}, {"key":"k","value":"v","ttl":60}, {"record":{"id":1},"metadata":{"table_schema":"public","table_name":"item"}}, {"action":"upsert","record":{"id":1},"metadata":{"table_schema":"public","table_name":"item"}}, {"action":"insert","record":{"id":1}}, {"action":"insert","record":{"id":1},"metadata":{"table_name":"item"}}, {"action":"insert","metadata":{"table_schema":"public","table_name":"item"}}, {"action":"insert","record":7,"metadata":{"table_schema":"public","table_name":"item"}}, {"action":"update","record":{"id":1},"changes":[],"metadata":{"table_schema":"public","table_name":"item"}}, {"action":"insert","record":{"id":1},"metadata":{"table_schema":"public","table_name":"item","commit_lsn":1.5}}, {"action":"insert","record":{"id":1},"metadata":{"table_schema":"public","table_name":"item","commit_timestamp":"now"}}'

select * from sequin_apply((:'good' || :'good')::text);
select * from sequin_apply(('{"data":[' || :'bad' || ',' || :'good' || ']}')::text);
\pset format unaligned
select position, sqlstate, error, message from sequin.dead_letter order by id;
select distinct mapping, state, attempts, detail, hint, key, source, lsn, idx from sequin.dead_letter;
create temp table of_text as select position, sqlstate, error, message::jsonb from sequin.dead_letter;
truncate sequin.dead_letter;

-- as jsonb
select * from sequin_apply(('{"data":[' || :'bad' || ',' || :'good' || ']}')::jsonb);
select count(*) from (select position, sqlstate, error, message::jsonb from sequin.dead_letter except table of_text) d;
select count(*) from sequin.dead_letter;
truncate sequin.dead_letter;

-- a body that is not JSON is one dead letter, and harms nobody
select received, upserted, dead from sequin_apply(json_build_object('Records',
    json_build_array(json_build_object('body', '{"action":'), json_build_object('body', :'good')))::text);
select position, sqlstate, message from sequin.dead_letter order by id;
select * from item;
truncate item, sequin.dead_letter;
\pset format aligned

-- text that is not JSON: its place is told, in bytes, and nothing is applied
\set VERBOSITY default
\set SHOW_CONTEXT never
select * from sequin_apply('');
select * from sequin_apply('   ');
select * from sequin_apply('{"data":[' || :'good' || ',');
select * from sequin_apply(:'good' || ' x');
select * from sequin_apply('{"data":["ä",}');
select * from sequin_apply(:'good' || '{"action":"insert","record":{"id":2');
select * from sequin_apply('{"action":01}');
\echo :LAST_ERROR_SQLSTATE
select count(*) from item;
select count(*) from sequin.dead_letter;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop table of_text;
drop schema envelopes_dead cascade;
