-- Row security of the destination applies to the mapping's owner: a row that a policy refuses is a dead letter, a row that it
-- hides is not there.
create schema row_security;
set search_path = row_security, test, public;
create role row_security_owner;
grant usage on schema row_security to row_security_owner;
grant select, insert, update, delete on sequin.mapping to row_security_owner;
grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to row_security_owner;
select sequin.grant_source('*.*', 'row_security_owner');
create table item (id integer primary key, tenant text, name text);
grant select, insert, update, delete on item to row_security_owner;
alter table item enable row level security;
create policy reads on item for select to row_security_owner using (tenant <> 'hidden');
create policy writes on item for insert to row_security_owner with check (tenant in ('mine', 'hidden'));
create policy changes on item for update to row_security_owner using (tenant = 'mine') with check (tenant = 'mine');
create policy removes on item for delete to row_security_owner using (tenant = 'mine');
insert into item values (1, 'mine', 'a'), (2, 'other', 'b'), (3, 'hidden', 'c');
set role row_security_owner;
select name from sequin.map('public.item', 'item', guard => 'table', name => 'item');
reset role;
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 10, "tenant": "mine", "name": "new"}'),
    message('insert', 'item', '{"id": 11, "tenant": "other", "name": "refused by the check of inserts"}'),
    message('update', 'item', '{"id": 1, "tenant": "mine", "name": "changed"}', '{}'),
    message('update', 'item', '{"id": 2, "tenant": "mine", "name": "refused: it may not be changed"}', '{}'),
    message('update', 'item', '{"id": 3, "tenant": "mine", "name": "refused: it may not be seen"}', '{}')));
table item order by id;
select position, sqlstate, error, detail, state, key from sequin.dead_letter order by position;
-- a delete of what may not be deleted finds nothing, as it does for any session of that role
select * from sequin_apply(batch(
    message('delete', 'item', '{"id": 2, "tenant": null, "name": null}'), message('delete', 'item', '{"id": 3, "tenant": null, "name": null}')));
table item order by id;
delete from sequin.dead_letter;
-- on_error 'raise'
update sequin.mapping set on_error = 'raise';
\set VERBOSITY default
\set SHOW_CONTEXT never
select * from sequin_apply(batch(message('insert', 'item', '{"id": 12, "tenant": "other", "name": "refused"}')));
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
select count(*) from item where id = 12;
-- the owner of the table is above its policies, unless they are forced
alter table item owner to row_security_owner;
select * from sequin_apply(batch(message('insert', 'item', '{"id": 13, "tenant": "other", "name": "by the table''s owner"}')));
alter table item force row level security;
select * from sequin_apply(batch(message('insert', 'item', '{"id": 14, "tenant": "other", "name": "refused"}')));
select id, name from item where id > 12;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema row_security cascade;
revoke all on sequin.mapping from row_security_owner;
drop owned by row_security_owner;
drop role row_security_owner;
