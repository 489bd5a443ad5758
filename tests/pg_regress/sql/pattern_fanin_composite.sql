-- guide.md, fan-in, option 1: several source tables in one table, under a composite key.
create schema pattern_fanin_composite;
set search_path = pattern_fanin_composite, test, public;
create table combined_records (
  source_table text,
  record_id uuid,
  data jsonb,
  primary key (source_table, record_id)
);
select name, destination from sequin.map('public.*', 'combined_records',
    columns => '{"source_table": "metadata.table_name", "record_id": "record.id", "data": "record"}',
    guard => 'off');

-- the same id in two tables makes two rows
select * from sequin_apply(batch(
    message('insert', 'users', '{"id": "00000000-0000-0000-0000-000000000001", "email": "a@example.com"}'),
    message('insert', 'orders', '{"id": "00000000-0000-0000-0000-000000000001", "total": "5.00"}'),
    message('read', 'products', '{"id": "00000000-0000-0000-0000-000000000002", "name": "Kettle"}')));
table combined_records order by 1, 2;

select * from sequin_apply(batch(
    message('update', 'users', '{"id": "00000000-0000-0000-0000-000000000001", "email": "b@example.com"}', '{}'),
    message('delete', 'orders', '{"id": "00000000-0000-0000-0000-000000000001", "total": null}')));
table combined_records order by 1, 2;

-- another schema is not mapped
select * from sequin_apply(batch(message('insert', 'crm.users', '{"id": "00000000-0000-0000-0000-000000000003"}')));
select count(*) from combined_records;

delete from sequin.mapping;
delete from sequin.dead_letter;
drop schema pattern_fanin_composite cascade;
