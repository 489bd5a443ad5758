-- The functions that forwarders call. They run as the extension's owner, so that a forwarder needs
-- EXECUTE on them and nothing else; the rows of each mapping are written as the mapping's owner.

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

comment on function @extschema@.sequin_apply(text) is
    'Applies a batch of Sequin messages: one message, an array or an envelope of them, or JSON lines.';
comment on function @extschema@.sequin_apply(jsonb) is
    'Applies a batch of Sequin messages: one message, an array or an envelope of them.';

revoke all on function @extschema@.sequin_apply(text) from public;
revoke all on function @extschema@.sequin_apply(jsonb) from public;

-- The rows of the batch that is being applied. Statements run as the mappings' owners read it, so
-- everybody may call it; outside sequin_apply it is an error. It is said to return one row, so that
-- joins begin with it and look the others up, whatever the size of the other table was when the plan
-- was made.
create function sequin.batch()
returns setof record
language c volatile strict parallel unsafe rows 1
as 'MODULE_PATHNAME', 'sequin_batch_wrapper';

comment on function sequin.batch() is 'Internal to sequin_apply: the rows that it is writing.';

-- Where a statement that writes them fails, it says at which row.
create function sequin.next_row() returns boolean
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'next_row_wrapper';

comment on function sequin.next_row() is 'Internal to sequin_apply: counts the rows that it is writing.';

create function sequin.build_profile() returns text
language c immutable parallel safe
as 'MODULE_PATHNAME', 'build_profile_wrapper';

comment on function sequin.build_profile() is 'How this library was built: release or debug.';
