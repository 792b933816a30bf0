"""Takes messages from a queue, one job after the other, until it is asked to end.

    worker.py QUEUE SECONDS PREFETCH

On SIGTERM, which is how Kubernetes asks, it takes no new message, finishes the one that it has, and gives back the rest.
"""

import os
import signal
import sys
import time

import pika

queue, seconds, prefetch = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
channel.queue_declare(queue=queue, durable=True)
channel.basic_qos(prefetch_count=prefetch)
signal.signal(signal.SIGTERM, lambda number, frame: connection.add_callback_threadsafe(channel.stop_consuming))


def on_message(channel, method, properties, body):
    time.sleep(seconds)
    channel.basic_ack(method.delivery_tag)


channel.basic_consume(queue=queue, on_message_callback=on_message)
channel.start_consuming()
connection.close()
