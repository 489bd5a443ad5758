-- Long work in portions, each in a transaction of its own: retrying and discarding dead letters, pruning, and ending
-- a resync.
--
-- A procedure commits between portions; a function in C does one portion. The procedure runs with its caller's
-- rights, since one with settings of its own cannot commit. So every role may execute the function, and the
-- function checks the privilege on the procedure. The procedure assigns the function's result: a query would stand in the
-- CONTEXT of each error.

-- A run commits its row after each portion, and removes the row at its end. The row of a stopped run stays
-- until the next run of any session. A run is under way while its session executes the statement that began it.
create table sequin.run (
    pid          integer primary key,
    statement_at timestamp with time zone not null default pg_catalog.statement_timestamp(),
    work         text not null,
    role         regrole not null,
    mapping      text,
    sqlstate     text,
    started_at   timestamp with time zone not null default pg_catalog.clock_timestamp(),
    upto         bigint not null default 0,
    most         bigint,
    before       timestamp with time zone,
    last_letter  bigint not null default 0,
    phase        text,
    place        text not null default '(0,0)',
    blocks       bigint not null default 16,
    waits        integer not null default 0,
    done         bigint not null default 0,
    healed       bigint not null default 0,
    deleted      bigint not null default 0,
    remaining    bigint not null default 0,
    counted_at   bigint not null default 0,
    updated_at   timestamp with time zone not null default pg_catalog.clock_timestamp()
);
comment on table sequin.run is 'Runs of work in portions, stopped runs included; sequin.progress shows the runs under way';
comment on column sequin.run.pid is 'Process ID of the session';
comment on column sequin.run.statement_at is 'When the statement began that calls the procedure';
comment on column sequin.run.work is 'Name of the procedure';
comment on column sequin.run.role is 'Role that called the procedure';
comment on column sequin.run.mapping is 'Mapping whose rows or dead letters the run is about; null for all mappings';
comment on column sequin.run.sqlstate is 'SQLSTATE of the dead letters that the run is about; null for any';
comment on column sequin.run.started_at is 'When the run began; dead letters that were tried since then are not tried again';
comment on column sequin.run.upto is 'id of the newest dead letter when the run began';
comment on column sequin.run.most is 'Limit on the number of dead letters; null for no limit';
comment on column sequin.run.before is 'When the dead letters that the run removes were received at the latest; null for any time';
comment on column sequin.run.last_letter is 'id of the last dead letter that the run has come to';
comment on column sequin.run.phase is 'What the next portion of finish_resync_in_portions does: settle, compare, delete, end or forget';
comment on column sequin.run.place is 'ctid up to which the rows of the destination have been looked at';
comment on column sequin.run.blocks is 'Number of blocks of the destination that the next portion looks at';
comment on column sequin.run.waits is 'How often in turn a portion did not get a lock';
comment on column sequin.run.done is 'Number of dead letters or rows that the run has come to';
comment on column sequin.run.healed is 'Number of tried dead letters that are gone: applied, or void because a newer change was applied';
comment on column sequin.run.deleted is 'Number of rows deleted';
comment on column sequin.run.remaining is 'Number of dead letters, or of rows, still to come to, as far as counted';
comment on column sequin.run.counted_at is 'Value of done when remaining was counted';
comment on column sequin.run.updated_at is 'When the last portion ended';
revoke all on sequin.run from public;

-- A session does not see the statements of others: of these, the time of the last portion decides.
create view sequin.progress with (security_barrier) as
select r.pid, r.work, r.role, r.mapping, r.sqlstate, r.started_at, r.done, r.healed, r.deleted, r.remaining, r.updated_at
from sequin.run r
join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) r.pid
where (a.query_start operator(pg_catalog.=) r.statement_at and a.state operator(pg_catalog.=) 'active'::pg_catalog.text
       or a.query_start is null
          and r.updated_at operator(pg_catalog.>) (pg_catalog.clock_timestamp() operator(pg_catalog.-) '1 minute'::pg_catalog.interval))
  and (pg_catalog.pg_has_role(r.role::pg_catalog.oid, 'USAGE'::pg_catalog.text)
       or pg_catalog.pg_has_role('pg_read_all_stats'::pg_catalog.name, 'USAGE'::pg_catalog.text));
comment on view sequin.progress is 'Progress of the work in portions under way: a role sees its own runs, members of pg_monitor all';
comment on column sequin.progress.pid is 'Process ID of the session: pg_cancel_backend stops the run; committed portions stay';
comment on column sequin.progress.work is 'Name of the procedure: retry_all, discard, prune or finish_resync_in_portions';
comment on column sequin.progress.role is 'Role that called the procedure';
comment on column sequin.progress.mapping is 'Mapping whose rows or dead letters the run is about; null for all mappings';
comment on column sequin.progress.sqlstate is 'SQLSTATE of the dead letters that the run is about; null for any';
comment on column sequin.progress.started_at is 'When the run began';
comment on column sequin.progress.done is 'Number of dead letters or rows that the run has come to';
comment on column sequin.progress.healed is 'Number of tried dead letters that are gone: applied, or void because a newer change was applied';
comment on column sequin.progress.deleted is 'Number of rows deleted';
comment on column sequin.progress.remaining is 'Number of dead letters, or of rows, still to come to, at most';
comment on column sequin.progress.updated_at is 'When the last portion ended';

create function sequin_internal.retry_portion(
    mapping text, sqlstate text, letters bigint, most bigint,
    out more bigint, out commits bigint, out tried bigint, out done bigint, out healed bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'retry_portion_wrapper';
comment on function sequin_internal.retry_portion(text, text, bigint, bigint) is
    'Internal: one step of sequin.retry_all; checks EXECUTE on that procedure';

-- Without SET: a procedure with settings of its own cannot commit. Every name is therefore qualified.
create procedure sequin.retry_all(
    mapping text default null, sqlstate text default null, max bigint default null, portion integer default 1000)
    language plpgsql security invoker as $all$
#variable_conflict use_column
declare
    step pg_catalog.record;
begin
    if coalesce(retry_all.portion operator(pg_catalog.<) 1, true) or retry_all.max operator(pg_catalog.<) 0 then
        raise exception 'portion must be at least 1, and max must not be negative'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of letters that are tried in one transaction, max that of all.';
    end if;
    step = sequin_internal.retry_portion(retry_all.mapping, retry_all.sqlstate, null, retry_all.max);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'letters are retried in one transaction'
            using hint = 'CALL sequin.retry_all commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        step = sequin_internal.retry_portion(retry_all.mapping, retry_all.sqlstate, retry_all.portion, null);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% letters were retried, of which % are gone', step.done, step.healed;
end
$all$;
comment on procedure sequin.retry_all(text, text, bigint, integer) is
    'Tries dead letters of your mappings again, each once: portion of them in each transaction, max in all. sequin.progress shows the progress. If the run is stopped, committed portions stay';

create function sequin_internal.resync_portion(
    mapping text, min_confirmed double precision, rows bigint,
    out more bigint, out commits bigint, out waits bigint, out deleted bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'resync_portion_wrapper';
comment on function sequin_internal.resync_portion(text, double precision, bigint) is
    'Internal: one step of sequin.finish_resync_in_portions; checks EXECUTE on that procedure';

create procedure sequin.finish_resync_in_portions(
    mapping text, min_confirmed double precision default 0.5, portion integer default 1000)
    language plpgsql security invoker as $portions$
#variable_conflict use_column
declare
    step pg_catalog.record;
begin
    if coalesce(finish_resync_in_portions.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of rows that are deleted in one transaction, at most.';
    end if;
    step = sequin_internal.resync_portion(finish_resync_in_portions.mapping, finish_resync_in_portions.min_confirmed, null);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'rows are deleted in one transaction'
            using hint = 'CALL sequin.finish_resync_in_portions commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        if step.waits operator(pg_catalog.=) 1 then
            perform pg_catalog.pg_sleep(1);
        end if;
        step = sequin_internal.resync_portion(finish_resync_in_portions.mapping, finish_resync_in_portions.min_confirmed,
                                              finish_resync_in_portions.portion);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% rows were deleted', step.deleted;
end
$portions$;
comment on procedure sequin.finish_resync_in_portions(text, double precision, integer) is
    'Ends a resync as sequin.finish_resync does, but in transactions that each delete portion rows at most, so that calls wait a moment only. sequin.progress shows the progress. If the run is stopped, committed portions stay, and the resync goes on: call it again';

create function sequin_internal.discard_portion(
    mapping text, sqlstate text, before bigint, letters bigint,
    out more bigint, out commits bigint, out done bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'discard_portion_wrapper';
comment on function sequin_internal.discard_portion(text, text, bigint, bigint) is
    'Internal: one step of sequin.discard; checks EXECUTE on that procedure';

-- Two parameters without default: what has no type, as in sequin.discard($1), is the number of a dead letter.
create procedure sequin.discard(
    mapping text, sqlstate text, older_than interval default null, portion integer default 1000)
    language plpgsql security invoker as $discard$
#variable_conflict use_column
declare
    before bigint = pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() operator(pg_catalog.-) discard.older_than)
                    operator(pg_catalog.*) 1000000::pg_catalog.float8;
    step   pg_catalog.record;
begin
    if coalesce(discard.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of letters that are discarded in one transaction.';
    end if;
    step = sequin_internal.discard_portion(discard.mapping, discard.sqlstate, before, null);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'letters are discarded in one transaction'
            using hint = 'CALL sequin.discard commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        step = sequin_internal.discard_portion(discard.mapping, discard.sqlstate, before, discard.portion);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% letters were discarded', step.done;
end
$discard$;
comment on procedure sequin.discard(text, text, interval, integer) is
    'Removes dead letters of your mappings without applying them: those of a mapping and an SQLSTATE (null: any) that were received longer ago than older_than, portion of them in each transaction';

create function sequin_internal.prune_portion(
    rows bigint, out more bigint, out commits bigint, out done bigint)
    language c volatile security invoker parallel unsafe as 'MODULE_PATHNAME', 'prune_portion_wrapper';
comment on function sequin_internal.prune_portion(bigint) is
    'Internal: one step of sequin.prune; checks EXECUTE on that procedure';

create procedure sequin.prune(portion integer default 1000)
    language plpgsql security invoker as $prune$
#variable_conflict use_column
declare
    step pg_catalog.record;
begin
    if coalesce(prune.portion operator(pg_catalog.<) 1, true) then
        raise exception 'portion must be at least 1'
            using errcode = 'invalid_parameter_value',
                  hint = 'A portion is the number of rows that are pruned in one transaction.';
    end if;
    step = sequin_internal.prune_portion(null);
    if step.commits operator(pg_catalog.=) 0 then
        raise notice 'rows are pruned in one transaction'
            using hint = 'CALL sequin.prune commits after each portion where no transaction block, function or exception handler is around it.';
    end if;
    loop
        if step.commits operator(pg_catalog.=) 1 then
            commit;
        end if;
        step = sequin_internal.prune_portion(prune.portion);
        exit when step.more operator(pg_catalog.=) 0;
    end loop;
    raise notice '% rows were pruned', step.done;
end
$prune$;
comment on procedure sequin.prune(integer) is
    'Removes tombstones that are older than sequin.tombstone_retention, and what removed mappings and ended resyncs have left, portion of each kind in each transaction. Calls of sequin_apply do so as well';
