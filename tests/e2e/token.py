"""Publishes a message to the queue `invoices` and takes it again, with nothing but the token of the pod's ServiceAccount.

    token.py HOST

Prints `took` and the message, or `refused` and the code with which the broker closed the connection.
"""

import ssl
import sys

import pika
import pika.exceptions

host = sys.argv[1]
with open("/var/run/secrets/warren/token") as file:
    token = file.read()
parameters = pika.ConnectionParameters(
    host,
    port=5671,
    credentials=pika.PlainCredentials("", token),
    ssl_options=pika.SSLOptions(ssl.create_default_context(), host),
    socket_timeout=5,
)
try:
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", "invoices", "one", pika.BasicProperties(delivery_mode=2), mandatory=True)
    method, _, body = next(channel.consume("invoices", inactivity_timeout=30))
    channel.basic_ack(method.delivery_tag)
    print("took", body.decode())
    connection.close()
except pika.exceptions.ProbableAuthenticationError:
    # pika has these in the place of a close with 403 and 530 before the connection is open.
    print("refused 403")
except pika.exceptions.ProbableAccessDeniedError:
    print("refused 530")
