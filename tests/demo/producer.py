"""Sends ten messages to the queue `hello`, each on a connection of its own, through the default exchange."""

import os
from datetime import datetime

import pika

parameters = pika.URLParameters(os.environ["AMQP_URI"])

for number in range(1, 11):
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.queue_declare(queue="hello")
    body = f"Hello {number}, it is {datetime.now().time()}"
    channel.basic_publish(exchange="", routing_key="hello", body=body)
    connection.close()
    print(f"sent {body}", flush=True)
