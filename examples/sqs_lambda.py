"""A Lambda function, from an SQS, SNS, Kinesis, Kafka or EventBridge trigger to sequin_apply.

Handler: sqs_lambda.handler; needs psycopg[binary] in a layer. The libpq variables (PGHOST, PGDATABASE, PGUSER, …) say where
the database is. If the function raises, Lambda sends the batch again: set no maximum of attempts lower than you can bear.
"""
import json

import psycopg

connection = None


def handler(event, context):
    global connection
    batch = json.dumps(event)
    for last in (False, True):
        try:
            if connection is None or connection.closed:
                connection = psycopg.connect(autocommit=True, prepare_threshold=None)
            connection.execute("select sequin_apply(%s)", [batch])
            return
        except psycopg.OperationalError:  # the connection of the invocation before may be gone
            connection = None
            if last:
                raise
