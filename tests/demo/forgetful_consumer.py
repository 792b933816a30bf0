"""Takes messages from the queue `hello` and never says that it is done with them."""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
channel.queue_declare(queue="hello")


def on_message(channel, method, properties, body):
    print(f"{'redelivered' if method.redelivered else 'received'} {body.decode()}", flush=True)


channel.basic_consume(queue="hello", on_message_callback=on_message)
channel.start_consuming()
