-- The functions that forwarders call. They run as the extension's owner, so that a forwarder needs EXECUTE
-- on them and nothing else. The rows of a mapping are written as the mapping's owner.

create function @extschema@.sequin_apply(
    batch text,
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
language c volatile security definer called on null input parallel unsafe
as 'MODULE_PATHNAME', 'sequin_apply_text_wrapper';

create function @extschema@.sequin_apply(
    batch jsonb,
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
language c volatile security definer called on null input parallel unsafe
as 'MODULE_PATHNAME', 'sequin_apply_jsonb_wrapper';

create function @extschema@.sequin_apply(
    payloads text[],
    out received bigint, out upserted bigint, out deleted bigint, out collapsed bigint,
    out stale bigint, out filtered bigint, out ignored bigint, out dead bigint)
language c volatile security definer called on null input parallel unsafe
as 'MODULE_PATHNAME', 'sequin_apply_payloads_wrapper';

comment on function @extschema@.sequin_apply(text) is
    'Applies a batch of Sequin messages: one message, an array or an envelope of them, or JSON lines. A line that is not JSON is one dead letter.';
comment on function @extschema@.sequin_apply(text[]) is
    'Applies Sequin messages as a broker gave them: each payload is a message or an envelope of messages. A payload that is not JSON, or null, is one dead letter.';
comment on function @extschema@.sequin_apply(jsonb) is
    'Applies a batch of Sequin messages: one message, an array or an envelope of them.';

revoke all on function @extschema@.sequin_apply(text) from public;
revoke all on function @extschema@.sequin_apply(jsonb) from public;
revoke all on function @extschema@.sequin_apply(text[]) from public;

-- Returns the rows of the batch that is being applied; outside sequin_apply it raises an error. Statements
-- that run as the owner of a mapping call the function, so the owner is granted EXECUTE. ROWS 1 makes joins
-- begin with the batch and look up the rows of the other table, however large that table was when the plan
-- was made.
create function sequin_internal.batch()
returns setof record
language c volatile strict parallel unsafe rows 1
as 'MODULE_PATHNAME', 'sequin_batch_wrapper';

comment on function sequin_internal.batch() is 'Internal to sequin_apply: the rows that it is writing.';

-- Counts the rows that a statement has read. If the statement fails, the count shows which row failed.
create function sequin_internal.next_row() returns boolean
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'next_row_wrapper';

comment on function sequin_internal.next_row() is 'Internal to sequin_apply: counts the rows that it is writing.';

create function sequin.build_profile() returns text
language c immutable parallel safe
as 'MODULE_PATHNAME', 'build_profile_wrapper';

comment on function sequin.build_profile() is 'How this library was built: release or debug.';
