-- What 0.2.0 changes in the SQL of 0.1.0. A change of another file of sql/ also goes here, until 0.2.0 is released.

\echo Use "ALTER EXTENSION pg_sequin UPDATE" to load this file. \quit

set local search_path = pg_catalog, pg_temp;
