"""The tutorials' programs and what users do next, with pika. Prints a line for each case."""

import sys
import time

import pika
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, UnroutableError

SECONDS = 10
cases = []


def case(function):
    cases.append(function)
    return function


def connect(**parameters):
    return pika.BlockingConnection(pika.ConnectionParameters("localhost", **parameters))


def take(channel, queue, count, auto_ack=False, **arguments):
    """The next messages of a queue, by a consumer that ends then."""
    messages = []
    for method, properties, body in channel.consume(queue, auto_ack, inactivity_timeout=SECONDS, **arguments):
        if method is None:
            raise AssertionError(f"{len(messages)} of {count} messages came")
        messages.append((method, properties, body))
        if not auto_ack:
            channel.basic_ack(method.delivery_tag)
        if len(messages) == count:
            break
    channel.cancel()
    return messages


def bodies(messages):
    return [body.decode() for _, _, body in messages]


def closed(code, text, deed):
    """The deed costs the channel, for this reason."""
    try:
        deed()
    except ChannelClosedByBroker as error:
        assert (error.reply_code, error.reply_text) == (code, text), error
    else:
        raise AssertionError("the channel stays open")


@case
def hello_world(channel):
    channel.queue_declare("hello")
    channel.basic_publish("", "hello", b"Hello World!")
    assert bodies(take(channel, "hello", 1, auto_ack=True)) == ["Hello World!"]


@case
def work_queues(channel):
    channel.queue_declare("tasks", durable=True)
    persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    for number in range(10):
        channel.basic_publish("", "tasks", str(number).encode(), persistent)
    done = {"one": [], "two": []}
    for worker, bag in done.items():
        other = channel.connection.channel()
        other.basic_qos(prefetch_count=1)

        def work(its, method, _, body, bag=bag):
            bag.append(int(body))
            its.basic_ack(method.delivery_tag)

        other.basic_consume("tasks", work, consumer_tag=worker)
    until = time.monotonic() + SECONDS
    while sum(map(len, done.values())) < 10 and time.monotonic() < until:
        channel.connection.process_data_events(0.1)
    assert sorted(done["one"] + done["two"]) == list(range(10)), done
    assert done["one"] and done["two"], done
    assert channel.queue_declare("tasks", passive=True).method.message_count == 0


@case
def publish_subscribe(channel):
    channel.exchange_declare("logs", "fanout")
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
    assert all(queue.startswith("amq.gen-") for queue in queues), queues
    for queue in queues:
        channel.queue_bind(queue, "logs")
    channel.basic_publish("logs", "", b"info")
    assert [bodies(take(channel, queue, 1)) for queue in queues] == [["info"], ["info"]]


@case
def routing(channel):
    channel.exchange_declare("direct_logs", "direct")
    errors, everything = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    channel.queue_bind(errors, "direct_logs", "error")
    for severity in ("info", "warning", "error"):
        channel.queue_bind(everything, "direct_logs", severity)
    for severity in ("info", "error", "debug"):
        channel.basic_publish("direct_logs", severity, severity.encode())
    assert bodies(take(channel, errors, 1)) == ["error"]
    assert bodies(take(channel, everything, 2)) == ["info", "error"]


@case
def topics(channel):
    channel.exchange_declare("topic_logs", "topic")
    wanted = {"kern.*": ["kern.critical"], "*.critical": ["kern.critical", "cron.critical"], "#": None}
    sent = ["kern.critical", "cron.critical", "cron.info", "a.b.c", ""]
    queues = {}
    for pattern in wanted:
        queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queues[pattern], "topic_logs", pattern)
    for key in sent:
        channel.basic_publish("topic_logs", key, key.encode())
    for pattern, expected in wanted.items():
        expected = sent if expected is None else expected
        assert bodies(take(channel, queues[pattern], len(expected))) == expected, pattern


@case
def remote_procedure_call(channel):
    channel.queue_declare("rpc_queue")
    callback = channel.queue_declare("", exclusive=True).method.queue
    properties = pika.BasicProperties(reply_to=callback, correlation_id="one")
    channel.basic_publish("", "rpc_queue", b"30", properties)
    [(_, request, body)] = take(channel, "rpc_queue", 1)
    answer = pika.BasicProperties(correlation_id=request.correlation_id)
    channel.basic_publish("", request.reply_to, str(int(body) + 1).encode(), answer)
    [(_, reply, body)] = take(channel, callback, 1)
    assert (reply.correlation_id, body) == ("one", b"31")


@case
def direct_reply_to(channel):
    channel.queue_declare("rpc_direct")
    replies = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *words: replies.append(words[-1]), auto_ack=True)
    properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
    channel.basic_publish("", "rpc_direct", b"ping", properties)
    server = connect()
    other = server.channel()
    [(_, request, _)] = take(other, "rpc_direct", 1)
    assert request.reply_to.startswith("amq.rabbitmq.reply-to."), request.reply_to
    other.basic_publish("", request.reply_to, b"pong")
    until = time.monotonic() + SECONDS
    while not replies and time.monotonic() < until:
        channel.connection.process_data_events(0.1)
    server.close()
    assert replies == [b"pong"], replies


@case
def publisher_confirms(channel):
    channel.confirm_delivery()
    channel.queue_declare("confirmed", durable=True)
    channel.basic_publish("", "confirmed", b"kept", mandatory=True)
    try:
        channel.basic_publish("", "nowhere", b"lost", mandatory=True)
    except UnroutableError as error:
        [returned] = error.messages
        assert (returned.method.reply_code, returned.method.reply_text, returned.body) == (312, "NO_ROUTE", b"lost")
    else:
        raise AssertionError("it was not returned")
    assert bodies(take(channel, "confirmed", 1)) == ["kept"]


@case
def a_missing_queue_costs_the_channel_only(channel):
    text = "NOT_FOUND - no queue 'nope' in vhost '/'"
    closed(404, text, lambda: channel.queue_declare("nope", passive=True))
    channel.connection.channel().queue_declare("", exclusive=True)


@case
def another_declaration_of_a_queue_is_refused(channel):
    channel.queue_declare("declared", durable=True)
    text = (
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'declared' in vhost '/': "
        "received 'false' but current is 'true'"
    )
    closed(406, text, lambda: channel.queue_declare("declared"))


@case
def rejected_messages_come_back_in_their_place(channel):
    channel.queue_declare("returned", exclusive=True)
    for number in range(3):
        channel.basic_publish("", "returned", str(number).encode())
    first, _, _ = channel.basic_get("returned")
    channel.basic_nack(first.delivery_tag, requeue=True)
    messages = take(channel, "returned", 3)
    assert bodies(messages) == ["0", "1", "2"]
    assert [method.redelivered for method, _, _ in messages] == [True, False, False]


@case
def dead_letters_tell_where_they_died(channel):
    channel.queue_declare("graveyard", exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"}
    channel.queue_declare("mortal", exclusive=True, arguments=arguments)
    channel.basic_publish("", "mortal", b"soul")
    method, _, _ = channel.basic_get("mortal")
    channel.basic_reject(method.delivery_tag, requeue=False)
    [(_, properties, body)] = take(channel, "graveyard", 1)
    [death] = properties.headers["x-death"]
    assert body == b"soul" and (death["queue"], death["reason"], death["count"]) == ("mortal", "rejected", 1), death
    assert properties.headers["x-first-death-queue"] == "mortal"


@case
def old_messages_expire(channel):
    channel.queue_declare("late", exclusive=True)
    arguments = {"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "late"}
    channel.queue_declare("impatient", exclusive=True, arguments=arguments)
    channel.basic_publish("", "impatient", b"by queue")
    channel.basic_publish("", "impatient", b"by message", pika.BasicProperties(expiration="1"))
    messages = take(channel, "late", 2)
    assert bodies(messages) == ["by queue", "by message"]
    assert [properties.headers["x-death"][0]["reason"] for _, properties, _ in messages] == ["expired"] * 2


@case
def urgent_messages_go_first(channel):
    channel.queue_declare("urgent", exclusive=True, arguments={"x-max-priority": 9})
    for priority in (1, 5, 9, 5):
        channel.basic_publish("", "urgent", str(priority).encode(), pika.BasicProperties(priority=priority))
    assert bodies(take(channel, "urgent", 4)) == ["9", "5", "5", "1"]


@case
def a_full_queue_drops_its_oldest(channel):
    channel.queue_declare("short", exclusive=True, arguments={"x-max-length": 2})
    for number in range(4):
        channel.basic_publish("", "short", str(number).encode())
    assert bodies(take(channel, "short", 2)) == ["2", "3"]


@case
def a_full_queue_refuses(channel):
    channel.confirm_delivery()
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare("shut", exclusive=True, arguments=arguments)
    channel.basic_publish("", "shut", b"first")
    try:
        channel.basic_publish("", "shut", b"second")
    except pika.exceptions.NackError:
        return
    raise AssertionError("the second message was taken")


@case
def transactions(channel):
    channel.queue_declare("ledger", exclusive=True)
    channel.tx_select()
    channel.basic_publish("", "ledger", b"undone")
    channel.tx_rollback()
    channel.basic_publish("", "ledger", b"done")
    assert channel.queue_declare("ledger", passive=True).method.message_count == 0
    channel.tx_commit()
    method, _, body = channel.basic_get("ledger", auto_ack=True)
    assert body == b"done" and method.message_count == 0


@case
def headers_of_all_types_come_back(channel):
    headers = {
        "text": "ü", "small": 7, "large": 2**40, "negative": -1, "yes": True, "nothing": None,
        "list": [1, "two", False], "table": {"inner": {"deep": 1}},
    }
    channel.queue_declare("typed", exclusive=True)
    channel.basic_publish("", "typed", b"", pika.BasicProperties(headers=headers, content_type="text/plain", priority=3))
    [(_, properties, body)] = take(channel, "typed", 1)
    assert (properties.headers, properties.content_type, properties.priority, body) == (headers, "text/plain", 3, b"")


@case
def streams_are_read_again(channel):
    channel.queue_declare("stream", durable=True, arguments={"x-queue-type": "stream"})
    channel.confirm_delivery()
    for number in range(3):
        channel.basic_publish("", "stream", str(number).encode())
    channel.basic_qos(prefetch_count=10)
    for _ in range(2):
        messages = take(channel, "stream", 3, arguments={"x-stream-offset": "first"})
        assert bodies(messages) == ["0", "1", "2"]
        assert [properties.headers["x-stream-offset"] for _, properties, _ in messages] == [0, 1, 2]


@case
def a_wrong_password_is_refused(_):
    try:
        connect(credentials=pika.PlainCredentials("guest", "wrong"))
    except AMQPConnectionError:
        return
    raise AssertionError("it was let in")


def main():
    for function in cases:
        name = function.__name__.replace("_", " ")
        connection = connect()
        try:
            function(connection.channel())
            print("passed", name, sep="\t", flush=True)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".replace("\n", " ").replace("\t", " ")
            print("failed", name, text, sep="\t", flush=True)
        if connection.is_open:
            connection.close()


sys.exit(main())
