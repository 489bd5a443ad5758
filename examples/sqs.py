"""From an SQS queue, FIFO or standard, that Sequin's SQS sink fills to sequin_apply.

python3 sqs.py; needs psycopg and boto3. QUEUE_URL is the queue; AWS_REGION and the credentials are boto3's. The libpq
variables (PGHOST, PGDATABASE, PGUSER, …) say where the database is. Run several to go faster. See also sqs_lambda.py.
"""
import json, os, signal, sys, threading

import boto3
import psycopg
from botocore.exceptions import BotoCoreError, ClientError

QUEUE = os.environ["QUEUE_URL"]
sqs = boto3.client("sqs")

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


def receive():
    """Up to a hundred messages: SQS gives ten at a time. Only the first request waits."""
    messages, wait = [], 5
    while len(messages) < 100:
        answer = sqs.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
        if not answer.get("Messages"):
            break
        messages += answer["Messages"]
        wait = 0
    return messages


while not stopped.is_set():
    try:
        messages = receive()
        if messages and apply(json.dumps([{"Body": message["Body"]} for message in messages])):
            for i in range(0, len(messages), 10):
                entries = [{"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}
                           for message in messages[i:i + 10]]
                sqs.delete_message_batch(QueueUrl=QUEUE, Entries=entries)
    except (BotoCoreError, ClientError) as error:  # what was not deleted comes again after the visibility timeout
        print("trying again:", error, file=sys.stderr)
        stopped.wait(1)
