-- Every envelope of the sinks gives the same rows, as text and as jsonb.
create schema envelopes;
set search_path = envelopes, test, public;
create table item (id integer primary key, name text);
select name from sequin.map('public.item', 'item', guard => 'off');
create function base64(body text) returns text language sql as
    $$ select translate(encode(convert_to(body, 'UTF8'), 'base64'), E'\n', '') $$;
create function q(body text) returns text language sql as $$ select to_json(body)::text $$;

create table envelope (n serial, name text, messages integer, batch text);
with one (a, b) as (select message('insert', 'item', '{"id": 1, "name": "Äpfel \"fein\" \\ 1"}', lsn => 1),
                           message('read', 'item', '{"id": 2, "name": "two"}', lsn => 2))
insert into envelope (name, messages, batch)
select e.* from one, lateral (values
    ('webhook, batched', 2, format('{"data":[%s,%s]}', a, b)),
    ('webhook, unbatched; NATS, RabbitMQ, Kafka, SQS body', 1, a),
    ('array', 2, format('[%s,%s]', a, b)),
    ('Sequin Stream', 2, format('{"data":[{"ack_id":"x1","data":%s},{"ack_id":"x2","data":%s}]}', a, b)),
    ('Sequin Stream as documented', 2, format('{"data":[{"ack_id":"x1",%s,{"ack_id":"x2",%s]}', substr(a, 2), substr(b, 2))),
    ('SQS through Lambda', 2, format('{"Records":[{"messageId":"1","body":%s},{"messageId":"2","body":%s}]}', q(a), q(b))),
    ('SQS of SNS through Lambda', 2, format('{"Records":[{"body":%s},{"body":%s}]}',
        q(format('{"Type":"Notification","Message":%s}', q(a))), q(format('{"Type":"Notification","Message":%s}', q(b))))),
    ('SNS', 1, format('{"Type":"Notification","MessageId":"1","Message":%s}', q(a))),
    ('SNS through Lambda', 1, format('{"Records":[{"EventSource":"aws:sns","Sns":{"Type":"Notification","Message":%s}}]}', q(a))),
    ('Kinesis', 1, q(base64(a))),
    ('Kinesis through Lambda', 2, format('{"Records":[{"kinesis":{"data":"%s"}},{"kinesis":{"data":"%s"}}]}', base64(a), base64(b))),
    ('Redis stream, fields as an object', 1, json_build_object('record', (a::json->'record')::text, 'changes', 'null',
        'action', 'insert', 'metadata', (a::json->'metadata')::text)::text),
    ('Pub/Sub', 1, format('{"message":{"data":"%s","attributes":{"k":"v"}},"subscription":"s"}', base64(a))),
    ('Event Hubs', 1, format('{"data":%s,"attributes":{"k":"v"}}', a)),
    ('Event Hubs, several', 2, format('[{"data":%s,"attributes":{}},{"data":%s,"attributes":{}}]', a, b)),
    ('S2', 2, format('{"records":[{"body":%s},{"body":%s}]}', q(a), q(b)))) e;

create function applied(batch anyelement, out received bigint, out upserted bigint, out dead bigint, out written text)
language plpgsql as $$
begin
    truncate item;
    if pg_typeof(batch) = 'text'::regtype then
        select r.received, r.upserted, r.dead into received, upserted, dead from sequin_apply(batch::text) r;
    else
        select r.received, r.upserted, r.dead into received, upserted, dead from sequin_apply(batch::jsonb) r;
    end if;
    select string_agg(id || ' ' || name, ', ' order by id) into written from item;
end $$;
\pset format unaligned
\pset tuples_only on
select e.name, t.*, case when t = j then 'jsonb the same' else j::text end, case when t.received <> e.messages then 'wrong' end
from envelope e, lateral applied(e.batch) t, lateral applied(e.batch::jsonb) j order by e.n;
\pset format aligned
\pset tuples_only off

select * from sequin_apply('{"data":[]}'::text);
select * from sequin_apply('{"data":[]}'::jsonb);
select * from sequin_apply('[]');

-- the sink option timestamp_format, and messages of older versions of Sequin
select * from sequin_apply(batch(
    message('insert', 'item', '{"id": 11, "name": "microseconds"}', metadata => '{"commit_timestamp": 1730151421127470}'),
    '{"record":{"id":12,"name":"2024"},"action":"insert","changes":null,"metadata":{"table_schema":"public","table_name":"item","commit_timestamp":"2024-10-28T21:37:01Z","consumer":{"id":"c","name":"c"}}}'));
select * from item where id > 10 order by id;
select count(*) from sequin.dead_letter;
delete from sequin.mapping;
drop schema envelopes cascade;
