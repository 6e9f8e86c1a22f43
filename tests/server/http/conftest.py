"""Workers that several files of this folder share."""

import socket

import pytest


@pytest.fixture(scope="session")
def hasty_worker(start_worker, served_models):
    """A worker with keys, few connections and short times."""
    server = {
        "max_connections": 16,
        "max_connections_per_address": 14,
        "request_timeout": 1.0,
        "keep_alive_timeout": 2.0,
        "write_timeout": 2.0,
    }
    with start_worker(served_models, {}, server) as worker:
        # What a worker's system takes for a client that does not read is small here.
        worker._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        worker.connect_engine()
        yield worker


@pytest.fixture
def hasty(hasty_worker):
    """It takes 16 connections, and gives its clients about a second for each thing."""
    hasty_worker.settle()
    return hasty_worker
