"""A plugin of pytest for aio-pika's tests, which want to start a broker in a container: here one runs already.

The tests reach it by a port that leads to it, as Docker's do, and a millisecond away: the client has a race with itself, between
the end of a connection and what waits for it, that it loses if a broker answers within a tenth of that.
"""

import contextlib
import socket
import sys
import threading
import time

DELAY = 0.001


def pump(source, target, delay):
    try:
        while data := source.recv(1 << 16):
            time.sleep(delay)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone, and so the other has to go.
        for side in source, target:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def forward(port):
    """A port of its own that leads to this one."""
    listener = socket.create_server(("localhost", 0))

    def serve():
        while True:
            client, _ = listener.accept()
            broker = socket.create_connection(("localhost", port))
            for side in client, broker:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for way in (client, broker, 0), (broker, client, DELAY):
                threading.Thread(target=pump, args=way, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


class Docker:
    """Stands in for `tests.docker_client.DockerClient`."""

    def __init__(self, _=None):
        pass

    def run(self, image, ports, environment=None):
        from tests.docker_client import ContainerInfo

        return ContainerInfo(
            id="here", ports={port: forward(int(port.split("/")[0])) for port in ports}, host="localhost"
        )

    def kill(self, _):
        pass

    def remove(self, _):
        pass


def pytest_load_initial_conftests():
    sys.path.insert(0, ".")
    from tests import docker_client

    docker_client.check_docker_available = lambda: None
    docker_client.DockerClient = Docker
