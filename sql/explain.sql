-- Explains a mapping, and shows what a batch would do. The caller needs the rights of the owner of every
-- mapping involved, because rows are written and read as that owner.

create function sequin.explain(mapping text)
    returns table (part text, name text, type text, source text, "cast" text, sql text)
    language c volatile as 'MODULE_PATHNAME', 'explain_mapping_wrapper';
comment on function sequin.explain(text) is
    'Source of each column of a mapping''s destination, and the statements that write the destination';

create function sequin_internal.explain_rows(batch text)
    returns table ("position" bigint, mapping text, key text, outcome text, sqlstate text, error text,
                   before text, after text)
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'explain_rows_wrapper';
comment on function sequin_internal.explain_rows(text) is 'Internal to sequin.explain and sequin.explain_batch';

create function sequin.explain_batch(batch text)
    returns table ("position" bigint, mapping text, key jsonb, outcome text, sqlstate text, error text,
                   before jsonb, after jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $$
    select e."position", e.mapping, e.key::jsonb, e.outcome, e.sqlstate, e.error, e.before::jsonb, e.after::jsonb
    from sequin_internal.explain_rows(explain_batch.batch) e $$;
comment on function sequin.explain_batch(text) is
    'What sequin_apply(batch) would do: the outcome of each message in each mapping, and the row before and after; nothing is applied';

create function sequin.explain(batch jsonb)
    returns table ("position" bigint, mapping text, key jsonb, outcome text, sqlstate text, error text,
                   before jsonb, after jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp as $$
    select e."position", e.mapping, e.key, e.outcome, e.sqlstate, e.error, e.before, e.after
    from sequin.explain_batch(explain.batch::text) e $$;
comment on function sequin.explain(jsonb) is
    'What sequin_apply(batch) would do: the outcome of each message in each mapping, and the row before and after; nothing is applied';
