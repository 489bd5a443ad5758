-- Under REPLICA IDENTITY DEFAULT an update has "unchanged_toast" for large values that it did not touch.
create schema unchanged_toast;
set search_path = unchanged_toast, test, public;
create table document (id integer primary key, title text, body text not null, meta jsonb, parts text[], n integer default 5);
select name from sequin.map('public.document', 'document', guard => 'off');
select * from sequin_apply(batch(
    message('insert', 'document', '{"id": 1, "title": "a", "body": "long one", "meta": {"k": 1}, "parts": ["p"], "n": 1}'),
    message('insert', 'document', '{"id": 2, "title": "b", "body": "long two", "meta": {"k": 2}, "parts": ["q"], "n": 2}')));
-- the values are kept, whatever the type, also in a column that may not be null
select * from sequin_apply(batch(
    message('update', 'document', '{"id": 1, "title": "a2", "body": "unchanged_toast", "meta": "unchanged_toast", "parts": "unchanged_toast", "n": 1}', '{}'),
    message('update', 'document', '{"id": 2, "title": "b2", "body": "new two", "meta": "unchanged_toast", "parts": null, "n": 2}', '{}')));
table document order by id;
-- within a batch the value is an older message's
select * from sequin_apply(batch(
    message('update', 'document', '{"id": 1, "title": "a3", "body": "newer one", "meta": {"k": 3}, "parts": "unchanged_toast", "n": 1}', '{}'),
    message('update', 'document', '{"id": 1, "title": "a4", "body": "unchanged_toast", "meta": "unchanged_toast", "parts": "unchanged_toast", "n": 1}', '{}'),
    message('insert', 'document', '{"id": 3, "title": "c", "body": "long three", "meta": {"k": 3}, "parts": ["r"]}'),
    message('update', 'document', '{"id": 3, "title": "c2", "body": "unchanged_toast", "meta": "unchanged_toast", "parts": "unchanged_toast", "n": 3}', '{}')));
table document order by id;
-- but nothing is kept from before a delete
select * from sequin_apply(batch(
    message('delete', 'document', '{"id": 3, "title": null, "body": null, "meta": null, "parts": null, "n": null}'),
    message('insert', 'document', '{"id": 3, "title": "c3", "body": "another", "meta": null, "parts": null}')));
select * from document where id = 3;

-- listed in changes it is a text that was written; so it is in an insert and in a read
select * from sequin_apply(batch(
    message('update', 'document', '{"id": 1, "title": "unchanged_toast", "body": "unchanged_toast", "meta": {"k": 3}, "parts": ["p"], "n": 1}', '{"body": "newer one"}'),
    message('insert', 'document', '{"id": 4, "title": "unchanged_toast", "body": "unchanged_toast"}'),
    message('read', 'document', '{"id": 5, "title": "unchanged_toast", "body": "unchanged_toast", "meta": "unchanged_toast"}')));
select id, title, body, meta from document order by id;
-- what is like it is a text
select * from sequin_apply(batch(
    message('update', 'document', '{"id": 4, "title": "Unchanged_toast", "body": "unchanged_toast ", "meta": ["unchanged_toast"]}', '{}')));
select id, title, body, meta from document where id = 4;

-- through a path and an alias; jsonb is read the same
create table copy (id integer primary key, text_of text, city text);
select name from sequin.map('public.copied', 'copy', guard => 'off',
    columns => '{"id": "record.id", "text_of": "record.body", "city": "record.address.city"}');
select * from sequin_apply(batch(message('insert', 'copied', '{"id": 1, "body": "long", "address": {"city": "Bonn"}}')));
select * from sequin_apply(batch(message('update', 'copied', '{"id": 1, "body": "unchanged_toast", "address": "unchanged_toast"}', '{}')));
table copy;
select * from sequin_apply(batch(message('update', 'copied', '{"id": 1, "body": "unchanged_toast", "address": "unchanged_toast"}', '{}'))::jsonb);
table copy;

select count(*) from sequin.dead_letter;
delete from sequin.mapping;
drop schema unchanged_toast cascade;
