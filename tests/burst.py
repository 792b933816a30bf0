"""Sends persistent messages to a queue, all at once, and waits until the broker has confirmed each of them.

    burst.py QUEUE PREFIX COUNT

They are PREFIX-1, PREFIX-2 and so on. Prints when the first was sent and the last was confirmed, in seconds of Unix.
"""

import os
import sys
import time

import pika

queue, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
persistent = pika.BasicProperties(delivery_mode=2)
waiting, lowest, first = set(range(1, count + 1)), 1, 0.0


def on_connection(connection):
    connection.channel(on_open_callback=on_channel)


def on_channel(channel):
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery(on_confirm, callback=lambda method: send(channel))


def send(channel):
    global first
    first = time.time()
    for number in range(1, count + 1):
        channel.basic_publish("", queue, f"{prefix}-{number}", persistent)


def on_confirm(frame):
    global lowest
    tag, is_ack = frame.method.delivery_tag, isinstance(frame.method, pika.spec.Basic.Ack)
    if not is_ack:
        sys.exit(f"the broker refused message {tag}")
    waiting.difference_update(range(lowest, tag + 1) if frame.method.multiple else [tag])
    lowest = tag + 1 if frame.method.multiple else lowest
    if not waiting:
        print(f"confirmed {first} {time.time()}", flush=True)
        connection.close()


connection = pika.SelectConnection(
    pika.URLParameters(os.environ["AMQP_URI"]),
    on_open_callback=on_connection,
    on_open_error_callback=lambda connection, error: sys.exit(f"no connection: {error!r}"),
    on_close_callback=lambda connection, reason: connection.ioloop.stop(),
)
connection.ioloop.start()
if waiting:
    sys.exit(f"the connection was lost while {len(waiting)} messages were not confirmed")
