"""Prints every message of the queue `orders`.

    read.py keep|take

With `keep` nothing is acknowledged, so that all messages go back to their places when the connection ends.
"""

import os
import sys

import pika

auto_ack = {"keep": False, "take": True}[sys.argv[1]]
parameters = pika.URLParameters(os.environ["AMQP_URI"] + "?connection_attempts=100&retry_delay=0.1")
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
# Only asks: a queue that was lost is an error, not made anew.
channel.queue_declare(queue="orders", passive=True)

method, properties, body = channel.basic_get("orders", auto_ack)
while method:
    print(f"found {body.decode()}", flush=True)
    method, properties, body = channel.basic_get("orders", auto_ack)
connection.close()
