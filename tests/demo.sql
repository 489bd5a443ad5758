\echo == pg_sequin
create extension pg_sequin;
select extversion from pg_extension where extname = 'pg_sequin';
