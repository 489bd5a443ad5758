-- A batch that is null is an error, and no empty batch; an untyped batch is text.
create schema counts_null_batch;
set search_path = counts_null_batch, test, public;
\set VERBOSITY default
\set SHOW_CONTEXT never
select * from sequin_apply(null::text);
\echo :LAST_ERROR_SQLSTATE
select * from sequin_apply(null::jsonb);
\echo :LAST_ERROR_SQLSTATE
select * from sequin_apply(null);
\echo :LAST_ERROR_SQLSTATE
select * from sequin_apply('null'::jsonb);
select sqlstate, error, message from sequin.dead_letter;
prepare untyped as select * from sequin_apply($1);
select parameter_types from pg_prepared_statements where name = 'untyped';
execute untyped('[]');
deallocate untyped;
-- the result is one row, whose columns are these
select pg_get_function_arguments(oid) from pg_proc where proname = 'sequin_apply' order by 1;
select (sequin_apply('[]')).received;
-- outside of a call there is no batch
select * from sequin_internal.batch() b(id integer);
\echo :LAST_ERROR_SQLSTATE

delete from sequin.dead_letter;
drop schema counts_null_batch cascade;
