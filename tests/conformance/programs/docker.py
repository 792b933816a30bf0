"""A plugin of pytest for aio-pika's tests, which want to start a broker in a container: here one runs already."""

import sys


class Docker:
    """Stands in for `tests.docker_client.DockerClient`."""

    def __init__(self, _=None):
        pass

    def run(self, image, ports, environment=None):
        from tests.docker_client import ContainerInfo

        return ContainerInfo(id="here", ports={port: int(port.split("/")[0]) for port in ports}, host="localhost")

    def kill(self, _):
        pass

    def remove(self, _):
        pass


def pytest_load_initial_conftests():
    sys.path.insert(0, ".")
    from tests import docker_client

    docker_client.check_docker_available = lambda: None
    docker_client.DockerClient = Docker
