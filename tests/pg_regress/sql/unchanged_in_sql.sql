-- An expression of a mapping sees the kept value, not the word unchanged_toast.
create schema unchanged_in_sql;
set search_path = unchanged_in_sql, test, public;

-- a filter: the value is in the destination, under the same name, another name, or in a document
create table note (id integer primary key, title text, body text);
create table other (id integer primary key, title text, words text);
create table doc (id integer primary key, data jsonb);
create table bare (id integer primary key, title text);
create table upper_case (id integer primary key, title text, body text, big text, both_of text);
select count(*) from (
    select sequin.map('public.note', 'note', filter => 'record->>''body'' like ''keep%''')
    union all select sequin.map('public.note', 'other', filter => 'record->>''body'' like ''keep%''',
        columns => '{"id": "record.id", "title": "record.title", "words": "record.body"}')
    union all select sequin.map('public.note', 'doc', filter => 'record->>''body'' like ''keep%''',
        columns => '{"id": "record.id", "data": "record"}')
    union all select sequin.map('public.note', 'bare', filter => 'record->>''body'' like ''keep%''')
    union all select sequin.map('public.note', 'upper_case',
        columns => '{"*": "record.*", "big": {"sql": "upper(record->>''body'')"},
                     "both_of": {"sql": "concat(record->>''title'', record->>''lost'')"}}')) m;
select * from sequin_apply(batch(
    message('insert', 'note', '{"id": 1, "title": "a", "body": "keep one", "lost": "L"}'),
    message('insert', 'note', '{"id": 2, "title": "a", "body": "drop two", "lost": "L"}')));
select * from sequin_apply(batch(
    message('update', 'note', '{"id": 1, "title": "b", "body": "unchanged_toast", "lost": "unchanged_toast"}', '{}'),
    message('update', 'note', '{"id": 2, "title": "b", "body": "unchanged_toast", "lost": "unchanged_toast"}', '{}')));
table note;
table other;
table doc;
-- nothing knows the value here: a row that is there stays, and no other is let in
table bare;
-- nothing knows "lost", so the expression over it keeps its value
select * from upper_case order by id;

-- within a batch the value is an older message's
select * from sequin_apply(batch(
    message('insert', 'note', '{"id": 3, "title": "a", "body": "keep three", "lost": "L"}'),
    message('update', 'note', '{"id": 3, "title": "b", "body": "unchanged_toast", "lost": "M"}', '{}'),
    message('insert', 'note', '{"id": 5, "title": "a", "body": "drop five", "lost": "L"}'),
    message('update', 'note', '{"id": 5, "title": "b", "body": "unchanged_toast", "lost": "M"}', '{}'),
    message('insert', 'note', '{"id": 6, "title": "a", "body": "keep six", "lost": "L"}'),
    message('update', 'note', '{"id": 6, "title": "b", "body": "drop six", "lost": "L"}', '{}'),
    message('update', 'note', '{"id": 6, "title": "c", "body": "unchanged_toast", "lost": "M"}', '{}')));
select * from note where id > 2 order by id;
select * from bare where id > 2 order by id;
select * from upper_case where id > 2 order by id;

-- a real text of this wording is a value
select * from sequin_apply(batch(
    message('update', 'note', '{"id": 1, "title": "c", "body": "unchanged_toast", "lost": "L"}', '{"body": "keep one"}')));
select * from note where id = 1;

-- a key of such a value is a dead letter, not a row; a key of other values is right
create table by_sql (id text primary key, title text, body text);
create table by_hash (id text primary key, title text);
select count(*) from (
    select sequin.map('public.keyed', 'by_sql', filter => 'record->>''body'' <> ''no''',
        columns => '{"id": {"sql": "''k'' || (record->>''id'')"}, "*": "record.*"}')
    union all select sequin.map('public.keyed', 'by_hash',
        columns => '{"id": {"sql": "md5(record->>''body'')"}, "*": "record.*"}')) m;
select * from sequin_apply(batch(message('insert', 'keyed', '{"id": 1, "title": "a", "body": "x"}')));
select * from sequin_apply(batch(message('update', 'keyed', '{"id": 1, "title": "b", "body": "unchanged_toast"}', '{}')));
table by_sql;
table by_hash;
select error, hint from sequin.dead_letter;

-- every message of a log is a row, so nothing is lost: a dead letter
create table log (id integer, title text);
select count(*) from sequin.map('public.logged', 'log', mode => 'append', filter => 'record->>''body'' = ''x''');
select * from sequin_apply(batch(
    message('insert', 'logged', '{"id": 1, "title": "a", "body": "x"}'),
    message('update', 'logged', '{"id": 1, "title": "b", "body": "unchanged_toast"}', '{}')));
table log;
select error, hint from sequin.dead_letter where mapping like '%log%';

delete from sequin.dead_letter;
delete from sequin.mapping;
drop schema unchanged_in_sql cascade;

-- sequin.map warns of SQL over what nothing keeps; not where a column or a document keeps it, or it cannot be large
create schema unchanged_in_sql;
set search_path = unchanged_in_sql, test, public;
create table kept (id integer primary key, body text, data jsonb);
\set VERBOSITY default
select name from sequin.map('public.a', 'kept', columns => '{"id": "record.id"}', filter => 'record->>''body'' <> ''x''');
\set VERBOSITY terse
select name from sequin.map('public.b', 'kept', columns => '{"id": "record.id", "body": {"sql": "upper(record->>''body'')"}}');
select name from sequin.map('public.c', 'kept', columns => '{"id": "record.id", "body": "record.words"}', filter => 'record->>''words'' <> ''x''');
select name from sequin.map('public.d', 'kept', columns => '{"id": "record.id", "data": "record"}', filter => 'record->>''words'' <> ''x''');
select name from sequin.map('public.e', 'kept', columns => '{"id": "record.id"}', filter => '(record->>''n'')::int > 1');
delete from sequin.mapping;
drop schema unchanged_in_sql cascade;
