-- Envelopes of services behind a sink: Redis under RESP3, EventBridge, jobs, lists of base64, a byte order mark; gzip is named.
create schema envelopes_behind;
set search_path = envelopes_behind, test, public;
create table item (id integer primary key);
select count(*) from sequin.map('public.item', 'item', guard => 'off');
create function told(id integer) returns text language sql as $$
    select replace(message('insert', 'item', format('{"id": %s}', id)::json)::text, E'\n', '') $$;
create function base64(told text) returns text language sql as $$
    select replace(encode(convert_to(told, 'UTF8'), 'base64'), E'\n', '') $$;
select upserted, dead from sequin_apply(format('{"stream": [["1-0", %s], ["2-0", %s]]}', told(1), told(2)));
select upserted, dead from sequin_apply(format('{"detail-type": "t", "detail": %s}', told(3)));
select upserted, dead from sequin_apply(format('{"args": %s}', told(4)));
select upserted, dead from sequin_apply(format('{"args": ["queue", %s], "kwargs": {}}', told(5)));
select upserted, dead from sequin_apply(format('["%s", "%s"]', base64(told(6)), base64(told(7))));
select upserted, dead from sequin_apply(U&'\FEFF' || told(8));
select upserted, dead from sequin_apply(format('{"data": "%s"}', base64(U&'\FEFF' || told(9))));
select upserted, dead from sequin_apply('{"data": "H4sIAAAAAAAAA//+"}'::text);
select array_agg(id order by id) from item;
select error from sequin.dead_letter;
delete from sequin.dead_letter;
delete from sequin.mapping;
drop schema envelopes_behind cascade;
