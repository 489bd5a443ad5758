-- guide.md, 1-to-1 replication with the record as a document.
create schema pattern_document;
set search_path = pattern_document, test, public;
create table replicated_products (
  product_id uuid primary key,
  data jsonb
);
select name, destination from sequin.map('public.products', 'replicated_products',
    columns => '{"product_id": "record.id", "data": "record"}', guard => 'off');

select * from sequin_apply(batch(
    message('insert', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000001", "name": "Skillet", "tags": ["a", null], "dims": {"w": 1.50}}'),
    message('read', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000002", "name": "Kettle"}')));
select product_id, data from replicated_products order by 1;
select data->'dims'->>'w' as w from replicated_products where data ? 'dims';

select * from sequin_apply(batch(
    message('update', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000001", "name": "Pan", "serial": 9007199254740993}', '{}'),
    message('delete', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000002", "name": null}')));
select product_id, data from replicated_products order by 1;

select count(*) from sequin.dead_letter;
delete from sequin.mapping;
drop schema pattern_document cascade;
