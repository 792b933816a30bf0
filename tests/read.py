"""Prints every message of a queue.

    read.py QUEUE keep|take

With `keep` nothing is acknowledged, so that all messages go back to their places when the connection ends.
"""

import os
import sys

import pika

queue, auto_ack = sys.argv[1], {"keep": False, "take": True}[sys.argv[2]]
parameters = pika.URLParameters(os.environ["AMQP_URI"] + "?connection_attempts=100&retry_delay=0.1")
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
# Only asks: a queue that was lost is an error, not made anew.
left = channel.queue_declare(queue=queue, passive=True).method.message_count
messages = channel.consume(queue, auto_ack=auto_ack)
for _ in range(left):
    _, _, body = next(messages)
    print(f"found {body.decode()}", flush=True)
connection.close()
