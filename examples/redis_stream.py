"""From a Redis stream that Sequin's Redis Stream sink fills to sequin_apply.

python3 redis_stream.py; needs psycopg and redis. REDIS_URL and STREAM say what is read. The libpq variables (PGHOST,
PGDATABASE, PGUSER, …) say where the database is. CONSUMER: a name that stays when the process restarts, another for each.
"""
import json, os, signal, sys, threading

import psycopg
import redis

STREAM, GROUP = os.environ.get("STREAM", "sequin"), "pg_sequin"
CONSUMER = os.environ.get("CONSUMER", "one")
client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"), decode_responses=True, protocol=2)

stopped, connection = threading.Event(), None
signal.signal(signal.SIGTERM, lambda *_: stopped.set())


def apply(batch):
    """Returns True when the batch is committed. While the database is away, it tries again; False: we are to stop."""
    global connection
    while not stopped.is_set():
        try:
            if connection is None or connection.closed:
                # Without prepared statements it works behind pgbouncer.
                connection = psycopg.connect(autocommit=True, prepare_threshold=None)
            connection.execute("select sequin_apply(%s)", [batch])
            return True
        except psycopg.OperationalError as error:
            print("trying again:", error, file=sys.stderr)
            stopped.wait(1)
    return False


def forward(entries):
    if apply(json.dumps([fields for _, fields in entries if fields])):
        ids = [entry for entry, _ in entries]
        # Nothing else shortens the stream; leave xdel out if other groups read it.
        client.pipeline().xack(STREAM, GROUP, *ids).xdel(STREAM, *ids).execute()


after = "0"  # first what this consumer had read, and not acknowledged, before it ended
while not stopped.is_set():
    try:
        if after == "0" and not (client.exists(STREAM) and client.xinfo_groups(STREAM)):
            client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        answer = client.xreadgroup(GROUP, CONSUMER, {STREAM: after}, count=500, block=1000)
        entries = answer[0][1] if answer else []
        if not entries and after == ">":  # nothing new: what a consumer that is gone has left behind
            entries = client.xautoclaim(STREAM, GROUP, CONSUMER, min_idle_time=60_000, count=500)[1]
        if entries:
            forward(entries)
        else:
            after = ">"
    except redis.RedisError as error:
        print("trying again:", error, file=sys.stderr)
        after = "0"
        stopped.wait(1)
