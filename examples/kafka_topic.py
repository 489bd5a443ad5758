"""From a Kafka topic that Sequin's Kafka sink fills to sequin_apply.

python3 kafka_topic.py; needs psycopg and confluent-kafka. KAFKA are the brokers, TOPIC is the topic. The libpq variables
(PGHOST, PGDATABASE, PGUSER, …) say where the database is. Run as many as the topic has partitions to go faster.
"""
import json, os, signal, sys, threading

import psycopg
from confluent_kafka import Consumer, KafkaException

consumer = Consumer({
    "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"), "group.id": "pg_sequin",
    "auto.offset.reset": "earliest", "enable.auto.commit": False,
    "session.timeout.ms": 10_000})  # after a crash, another consumer takes over after ten seconds
consumer.subscribe([os.environ.get("TOPIC", "sequin")])

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


while not stopped.is_set():
    try:
        messages = [message for message in consumer.consume(500, timeout=1) if not message.error()]
        batch = [{"value": message.value().decode(errors="replace")} for message in messages]
        if batch and apply(json.dumps(batch)):
            consumer.commit(asynchronous=False)
    except KafkaException as error:  # the group was rebalanced: another consumer takes these messages again
        print("trying again:", error, file=sys.stderr)
        stopped.wait(1)
consumer.close()
