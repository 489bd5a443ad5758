"""From a RabbitMQ queue that is bound to the exchange of Sequin's RabbitMQ sink to sequin_apply.

python3 rabbitmq.py; needs psycopg and pika. AMQP_URL is the server's address, QUEUE a durable queue. The libpq variables
(PGHOST, PGDATABASE, PGUSER, …) say where the database is. Run several to go faster.
"""
import json, os, signal, sys, threading

import pika
import psycopg

URL, QUEUE, MOST = os.environ.get("AMQP_URL", "amqp://localhost"), os.environ.get("QUEUE", "sequin"), 500

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


def consume(channel):
    channel.basic_qos(prefetch_count=2 * MOST)
    bodies = []
    for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.1):
        if method:
            bodies.append({"payload": body.decode(errors="replace")})
            last = method.delivery_tag
        if bodies and (len(bodies) == MOST or not method):
            if apply(json.dumps(bodies)):
                channel.basic_ack(last, multiple=True)
            bodies = []
        if stopped.is_set():
            return


while not stopped.is_set():
    try:
        with pika.BlockingConnection(pika.URLParameters(URL)) as broker:
            consume(broker.channel())
    except pika.exceptions.AMQPError as error:  # what was not acknowledged comes again
        print("trying again:", error, file=sys.stderr)
        stopped.wait(1)
