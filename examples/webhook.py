"""From Sequin's webhook sink, in both of its modes, or a Pub/Sub push subscription, to sequin_apply.

python3 webhook.py; needs psycopg[pool]. The libpq variables (PGHOST, PGDATABASE, PGUSER, …) say where the database is. PORT
is the port; if TOKEN is set, Sequin has to send the header "Authorization: Bearer <TOKEN>". Put TLS in front of it.
"""
import hmac, os, signal, threading, zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from psycopg import Error
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

TOKEN = os.environ.get("TOKEN")
LARGEST = 64 << 20
# Four calls at a time; sixteen wait; more are told to come again. Without prepared statements it works behind pgbouncer.
pool = ConnectionPool(min_size=1, max_size=4, max_waiting=16, timeout=20, open=True,
                      kwargs={"autocommit": True, "prepare_threshold": None})


class Webhook(BaseHTTPRequestHandler):
    timeout = 30

    def do_POST(self):
        status, text = self.apply()
        if text:
            self.log_error("%s", text)
        self.send_response(status)
        self.end_headers()

    def apply(self):
        if TOKEN and not hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {TOKEN}"):
            return 401, "wrong token"
        length = int(self.headers.get("Content-Length", LARGEST + 1))
        if length > LARGEST:
            return 413, "too large, or of no stated length"
        body = self.rfile.read(length)
        try:
            if self.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompressobj(31).decompress(body, LARGEST)
            with pool.connection() as connection:
                connection.execute("select sequin_apply(%s)", [body.decode()])
            return 200, None
        except (PoolTimeout, TooManyRequests) as error:
            return 503, error
        except (Error, UnicodeDecodeError, zlib.error) as error:
            return 500, error

    def log_request(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for the calls that go on
    request_queue_size = 128


server = Server(("", int(os.environ.get("PORT", 8000))), Webhook)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
pool.close()
