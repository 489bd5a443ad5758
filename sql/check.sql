-- Whether each mapping can write, evaluated afresh. Only the mappings whose owner's rights the caller has are shown, so
-- that every role may call it.

create function sequin.check()
    returns table (mapping text, state text, sqlstate text, error text, hint text)
    language c volatile as 'MODULE_PATHNAME', 'check_mappings_wrapper';
comment on function sequin.check() is
    'A row for each of your mappings: whether it can write now, and if not, the error and what to run. Nothing is written; works on a standby';
