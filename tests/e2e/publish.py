"""Publishes persistent messages with confirms to the queue `orders`, one after the other, through the loss of its broker.

    publish.py PREFIX COUNT

Prints `halfway` when COUNT messages are confirmed and goes on until it loses the connection. It ends when COUNT more are
confirmed. No message is sent twice; `confirmed` or `unknown` before its name says what became of it.
"""

import os
import sys
import time

import pika
import pika.exceptions

prefix, count = sys.argv[1], int(sys.argv[2])
parameters = pika.URLParameters(os.environ["AMQP_URI"] + "?heartbeat=4&socket_timeout=2&blocked_connection_timeout=60")
persistent = pika.BasicProperties(delivery_mode=2)


def connect():
    while True:
        try:
            connection = pika.BlockingConnection(parameters)
            channel = connection.channel()
            channel.queue_declare(queue="orders", durable=True)
            channel.confirm_delivery()
            return channel
        except (pika.exceptions.AMQPError, OSError):
            time.sleep(0.05)


channel, number, confirmed, lost = connect(), 0, 0, False
while not lost or confirmed < count:
    number += 1
    message = f"{prefix}-{number}"
    try:
        channel.basic_publish("", "orders", message, persistent, mandatory=True)
    except (pika.exceptions.AMQPError, OSError):
        print(f"unknown {message}", flush=True)
        channel, confirmed, lost = connect(), 0, True
    else:
        print(f"confirmed {message}", flush=True)
        confirmed += 1
        if confirmed == count and not lost:
            print("halfway", flush=True)
