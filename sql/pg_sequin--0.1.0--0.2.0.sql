-- What 0.2.0 changes in the SQL of 0.1.0. A change of another file of sql/ also goes here, until 0.2.0 is released.

\echo Use "ALTER EXTENSION pg_sequin UPDATE" to load this file. \quit

set local search_path = pg_catalog, pg_temp;

create or replace function sequin_internal.add_guard_columns(destination regclass) returns void
    language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $add$
declare
    statement text;
    relation  record;
begin
    select c.oid::regclass::text as name, c.relkind, pg_has_role(c.relowner, 'USAGE') as owned,
           (select h.inhparent::regclass::text from pg_inherits h where h.inhrelid = c.oid and c.relispartition) as parent
    into relation
    from pg_class c where c.oid = add_guard_columns.destination;
    select format('ALTER TABLE %s %s;', relation.name,
                  string_agg(format('ADD COLUMN %s %s', w.name, w.type), ', ' order by w.n))
    into statement
    from (values (1, 'sequin_lsn', 'bigint'), (2, 'sequin_idx', 'integer'),
                 (3, 'sequin_committed_at', 'timestamp with time zone')) w (n, name, type)
    where not exists (select from pg_attribute a
                      where a.attrelid = add_guard_columns.destination and a.attname = w.name
                        and not a.attisdropped)
    having count(*) > 0;
    if statement is null or relation.relkind is null or relation.relkind not in ('r', 'p') then
        return;
    end if;
    if relation.parent is not null then
        raise exception 'partition % lacks columns that guard ''columns'' needs', relation.name
            using errcode = 'wrong_object_type',
                  detail = 'A partition has the columns of its partitioned table.',
                  hint = format('Add them to all partitions, by a role that owns the table: %s or use guard => ''table''.',
                                replace(statement, 'ALTER TABLE ' || relation.name || ' ', 'ALTER TABLE ' || relation.parent || ' '));
    end if;
    if not relation.owned then
        raise exception 'must be owner of table %', relation.name
            using errcode = 'insufficient_privilege',
                  detail = 'Under guard ''columns'' the versions of rows are kept in columns of the table, which are missing.',
                  hint = 'Let its owner run: ' || statement || ' or use guard => ''table''.';
    end if;
    execute statement;
end
$add$;
