"""Does the jobs of a queue, one after the other, until it is asked to end.

    worker.py QUEUE SECONDS PREFETCH [RESULTS]

Each takes SECONDS. With RESULTS, a job is acknowledged when the broker has confirmed a message in the queue of that name:
`<job> <first|again> <host> <time>`, where `again` is a job that was delivered before, and the time is in seconds of Unix.

On SIGTERM, which is how Kubernetes asks, it takes no new message, finishes the one that it has, and gives back the rest.
"""

import os
import signal
import socket
import sys
import time

import pika

# What has nothing yet may end at once. Without a handler the first process of a container ignores the signal.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
queue, seconds, prefetch, results = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
for name in [queue, *results]:
    channel.queue_declare(queue=name, durable=True)
channel.basic_qos(prefetch_count=prefetch)
channel.confirm_delivery()
signal.signal(signal.SIGTERM, lambda number, frame: connection.add_callback_threadsafe(channel.stop_consuming))


def on_message(channel, method, properties, body):
    time.sleep(seconds)
    for name in results:
        said = f"{body.decode()} {'again' if method.redelivered else 'first'} {socket.gethostname()} {time.time()}"
        channel.basic_publish("", name, said, pika.BasicProperties(delivery_mode=2), mandatory=True)
    channel.basic_ack(method.delivery_tag)


channel.basic_consume(queue=queue, on_message_callback=on_message)
channel.start_consuming()
connection.close()
