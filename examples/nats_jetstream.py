"""From a NATS JetStream stream that Sequin's NATS sink fills to sequin_apply.

python3 nats_jetstream.py; needs psycopg and nats-py. NATS_URL is the server's address, STREAM a stream with the subjects
"sequin.>". The libpq variables (PGHOST, PGDATABASE, PGUSER, …) say where the database is. Run several to go faster.
"""
import asyncio, json, os, signal, sys

import nats
import psycopg
from nats.js.api import ConsumerConfig

stop = asyncio.Event()
connection = None


async def apply(batch):
    """Returns True when the batch is committed. While the database is away, it tries again; False: we are to stop."""
    global connection
    while not stop.is_set():
        try:
            if connection is None or connection.closed:
                # Without prepared statements it works behind pgbouncer.
                connection = await psycopg.AsyncConnection.connect(autocommit=True, prepare_threshold=None)
            await connection.execute("select sequin_apply(%s)", [batch])
            return True
        except psycopg.OperationalError as error:
            print("trying again:", error, file=sys.stderr)
            await asyncio.sleep(1)
    return False


async def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await nats.connect(os.environ.get("NATS_URL", "nats://localhost:4222"), max_reconnect_attempts=-1)
    # What is not acknowledged within these seconds comes again, also to another process.
    config = ConsumerConfig(ack_wait=float(os.environ.get("ACK_WAIT", 60)), max_ack_pending=5000)
    subscription = await client.jetstream().pull_subscribe(
        "sequin.>", durable="pg_sequin", stream=os.environ.get("STREAM", "sequin"), config=config)
    while not stop.is_set():
        try:
            messages = await subscription.fetch(500, timeout=1)
        except asyncio.TimeoutError:  # nothing came
            continue
        batch = [{"payload": message.data.decode(errors="replace")} for message in messages]
        applied = await apply(json.dumps(batch))
        for message in messages:
            await (message.ack() if applied else message.nak())
    await client.flush()
    await client.close()

asyncio.run(main())
