-- What the tests share: the extension, and messages that are quickly written.
create extension if not exists pg_sequin;
create schema test;
create sequence test.lsn;
-- A message as Sequin sends it. Each was committed after the one that was made before.
create function test.message(action text, source text, record json, changes json default null,
                             lsn bigint default nextval('test.lsn'), metadata jsonb default '{}')
returns text language sql volatile as $$
    select json_build_object('record', record, 'changes', changes, 'action', action, 'metadata',
        jsonb_build_object(
            'table_schema', coalesce(substring(source from '(.*)\.'), 'public'),
            'table_name', substring(source from '[^.]*$'),
            'commit_timestamp', timestamptz '2026-01-01 00:00:00Z' + lsn * interval '1 minute',
            'commit_lsn', case when action <> 'read' then lsn end,
            'commit_idx', case when action <> 'read' then 0 end,
            'database_name', 'shop',
            'database', '{"id": "d1", "name": "shop", "annotations": {}}'::jsonb) || metadata)
$$;
-- A batch as a webhook gets it.
create function test.batch(variadic messages text[])
returns text language sql immutable as $$
    select '{"data":[' || array_to_string(messages, ',') || ']}'
$$;
