"""From a Sequin Stream sink to sequin_apply.

python3 sequin_stream.py; needs psycopg. SEQUIN_URL is Sequin's address, SINK the name of the sink, TOKEN an API token. The
libpq variables (PGHOST, PGDATABASE, PGUSER, …) say where the database is. Run several to go faster.
"""
import json, os, signal, sys, threading
import urllib.request

import psycopg

URL = f"{os.environ['SEQUIN_URL']}/api/http_pull_consumers/{os.environ['SINK']}"
HEADERS = {"Authorization": f"Bearer {os.environ['TOKEN']}", "Content-Type": "application/json"}

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


def post(path, **body):
    request = urllib.request.Request(f"{URL}/{path}", json.dumps(body).encode(), HEADERS)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


while not stopped.is_set():
    try:
        batch = post("receive", batch_size=500, wait_for=2000)
        ids = [message["ack_id"] for message in json.loads(batch)["data"]]
        if ids:
            post("ack" if apply(batch) else "nack", ack_ids=ids)
    except OSError as error:  # Sequin is away; what was received comes again after the visibility timeout
        print("trying again:", error, file=sys.stderr)
        stopped.wait(1)
