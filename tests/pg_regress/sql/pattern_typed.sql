-- guide.md, 1-to-1 replication with typed columns: the source's id is the destination's product_id.
create schema pattern_typed;
set search_path = pattern_typed, test, public;
create table replicated_products (
  product_id uuid primary key,  -- matches source table PK
  name text,
  price decimal,
  created_at timestamp
);
select name, destination from sequin.map('public.products', 'replicated_products',
    columns => '{"product_id": "record.id", "*": "record.*"}', guard => 'off');

select * from sequin_apply(batch(
    message('insert', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000001", "name": "Skillet", "price": "19.90", "created_at": "2026-01-01T10:00:00.123456"}'),
    message('read', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000002", "name": "Kettle", "price": 5.50, "created_at": "2025-12-31T23:59:59.000000"}'),
    message('insert', 'products', '{"id": "7B1D6C9E-0B0C-4C8E-9D2F-000000000003", "name": null, "price": null, "created_at": null}')));
select * from replicated_products order by 1;

-- a source column that the destination does not have is passed over
select * from sequin_apply(batch(
    message('update', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000001", "name": "Skillet, 28 cm", "price": "24.00", "created_at": "2026-01-01T10:00:00.123456", "stock": 3}', '{}'),
    message('delete', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000002", "name": null, "price": null, "created_at": null}'),
    -- deleting what is not there counts as deleted
    message('delete', 'products', '{"id": "7b1d6c9e-0b0c-4c8e-9d2f-000000000009", "name": null, "price": null, "created_at": null}')));
select * from replicated_products order by 1;

select count(*) from sequin.dead_letter;
delete from sequin.mapping;
drop schema pattern_typed cascade;
