"""Takes messages from the queue `hello`, for as long as it runs."""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
channel.queue_declare(queue="hello")


def on_message(channel, method, properties, body):
    print(f"received {body.decode()}", flush=True)


channel.basic_consume(queue="hello", on_message_callback=on_message, auto_ack=True)
channel.start_consuming()
