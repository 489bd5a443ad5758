-- A message that cannot be written is kept with what was wrong; the others of the batch are written.
create schema dead_letters;
set search_path = dead_letters, test, public;
create type mood as enum ('sad', 'ok');
create domain even as integer check (value % 2 = 0);
create table item (id integer primary key, name text not null, price numeric(6,2) check (price >= 0), feeling mood,
                   code varchar(3), pair even, at timestamptz, uid uuid);
select name from sequin.map('public.item', 'item', guard => 'off', name => 'item');
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 0, "name": "good", "price": "1.00", "feeling": "ok", "code": "abc", "pair": 2}', lsn => 1000),
    message('insert', 'item', '{"id": 1, "name": "uuid", "uid": "not a uuid"}', lsn => 1001),
    message('insert', 'item', '{"id": 2, "name": null}', lsn => 1002),
    message('insert', 'item', '{"id": 3, "name": "check", "price": -1}', lsn => 1003),
    message('insert', 'item', '{"id": 4, "name": "enum", "feeling": "angry"}', lsn => 1004),
    message('insert', 'item', '{"id": 5, "name": "too long", "code": "abcd"}', lsn => 1005),
    message('insert', 'item', '{"id": 6, "name": "overflow", "price": "123456.00"}', lsn => 1006),
    message('insert', 'item', '{"id": 7, "name": "domain", "pair": 3}', lsn => 1007),
    message('insert', 'item', '{"id": 8, "name": "time", "at": "2026-02-30T00:00:00Z"}', lsn => 1008),
    message('insert', 'item', '{"id": 9.5, "name": "key"}', lsn => 1009),
    message('insert', 'item', '{"id": null, "name": "key is null"}', lsn => 1010),
    message('insert', 'item', '{"name": "no key"}', lsn => 1011),
    message('insert', 'item', '{"id": 99999999999, "name": "key out of range"}', lsn => 1012),
    message('insert', 'item', '{"id": 13, "name": "nul \u0000"}', lsn => 1013),
    message('read', 'item', '{"id": 14, "name": {"a": 1}, "uid": [1]}', lsn => 1014),
    message('delete', 'item', '{"id": "x", "name": null}', lsn => 1015),
    message('insert', 'item', '{"id": 16, "name": "good too"}', lsn => 1016)));
select id, name, price, feeling, code, pair from item order by id;
set datestyle = iso;
set timezone = 'UTC';
\pset format unaligned
select position, sqlstate, error, detail, hint, key from sequin.dead_letter order by position;
select position, mapping, source, lsn, idx, committed_at, attempts, state, message::json->>'action' as action, message::json->'record' as record
from sequin.dead_letter where position <> 13 order by position;
select message like '%"name": "nul \\u0000"}%' as "as it came" from sequin.dead_letter where position = 13;
select count(*), bool_and(received_at = last_attempt_at and received_at between now() - interval '1 minute' and now()) from sequin.dead_letter;
\pset format aligned

-- a composite key
create table part (origin text, code date, n integer not null, primary key (origin, code));
select name from sequin.map('public.part', 'part', guard => 'off', name => 'part');
select * from sequin_apply(batch(
    message('insert', 'part', '{"origin": "a\"b", "code": "2026-01-31", "n": null}'),
    message('insert', 'part', '{"origin": "a", "code": "2026-01-31", "n": 1}')));
select mapping, sqlstate, error, key from sequin.dead_letter where mapping = 'part';
table part;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema dead_letters cascade;
