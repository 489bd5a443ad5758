-- Names of every kind, in the source and in the destination.
create schema "names.quoted ""Ä""";
set search_path = "names.quoted ""Ä""", test, public;
create table "select" ("ID" integer primary key, "user" text, "a b" text, "d.o.t" text, "q""uote" text, "o'hara" text,
                       "größe" text, "new
line" text, "back\slash" text, "order" integer generated always as identity, "%s $1" text);
create table "Orders, ""all"" (2024)" ("Key Part" text collate "C", "from" "char", n integer, primary key ("from", "Key Part"));
create type "My Mood" as enum ('it''s ok', 'so "so"');
create domain "Short Text" as varchar(5);
create table typed (id "Short Text" primary key, mood "My Mood", moods "My Mood"[]);
select name, destination from sequin.map('"my.schema"."my.table"', '"select"', guard => 'off', columns => '{
    "ID": "record.id", "d.o.t": {"sql": "record->>''d.o.t''"}, "*": "record.*"}');
select name, destination, key from sequin.map('"my.schema"."Orders, ""all"""', '"Orders, ""all"" (2024)"', guard => 'off', key => '{"Key Part",from}');
select name, destination from sequin.map('my schema.typed', 'typed', guard => 'off');
create table sent (message text);
insert into sent values
    ('{"action":"insert","record":{"id":1,"user":"u","a b":"ab","d.o.t":"dot","q\"uote":"q","o''hara":"o","größe":"ß","new\nline":"nl","back\\slash":"b","%s $1":"f"},"metadata":{"table_schema":"my.schema","table_name":"my.table"}}'),
    ('{"action":"insert","record":{"Key Part":"k","from":"a","n":1},"metadata":{"table_schema":"my.schema","table_name":"Orders, \"all\""}}'),
    ('{"action":"insert","record":{"Key Part":"l","from":"b","n":2},"metadata":{"table_schema":"my.schema","table_name":"Orders, \"all\""}}'),
    ('{"action":"insert","record":{"id":"short","mood":"so \"so\"","moods":["it''s ok",null]},"metadata":{"table_schema":"my schema","table_name":"typed"}}'),
    ('{"action":"insert","record":{"id":"too long","mood":null,"moods":null},"metadata":{"table_schema":"my schema","table_name":"typed"}}');
select a.* from (select string_agg(message, ' ') as batch from sent) b, sequin_apply(batch) a;
\x
table "select";
\x
table "Orders, ""all"" (2024)" order by n;
table typed;
select mapping, error, detail, key from sequin.dead_letter;
-- update and delete
select a.* from (select string_agg(replace(message, '"action":"insert"', '"action":"update","changes":{}'), ' ') as batch from sent) b, sequin_apply(batch) a;
select a.* from (select batch(variadic array_agg(replace(message, '"action":"insert"', '"action":"delete"'))) as batch from sent) b, sequin_apply(batch::jsonb) a;
select (select count(*) from "select"), (select count(*) from "Orders, ""all"" (2024)"), (select count(*) from typed);
-- a schema that is not in the search_path, named by a source with a database and a wildcard in quotes
create table "a*b" (id integer primary key);
select name from sequin.map('"db.x".public."a*b"', '"a*b"', guard => 'off');
reset search_path;
select received, upserted, dead from sequin_apply('{"action":"insert","record":{"id":1},"metadata":{"table_schema":"public","table_name":"a*b","database":{"id":"1","name":"db.x"}}}');
select received, upserted, dead from sequin_apply('{"action":"insert","record":{"id":2},"metadata":{"table_schema":"public","table_name":"axb","database":{"id":"1","name":"db.x"}}}');
table "names.quoted ""Ä"""."a*b";

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema "names.quoted ""Ä""" cascade;
