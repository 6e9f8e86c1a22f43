"""Stands in for the process that weighs models: it dies or hangs as the id of a model says."""

import os
import threading
from multiprocessing.connection import Connection

import msgspec

from mlxnode.messages.message import decoder_of
from mlxnode.models.fit import Weighed
from mlxnode.models.served import ServedModel


def main(descriptor: int) -> None:
    connection = Connection(descriptor)
    connection.recv_bytes()
    while True:
        try:
            model = decoder_of(ServedModel).decode(connection.recv_bytes())
        except EOFError:
            return
        if model.id == "dies":
            os._exit(3)
        if model.id == "hangs":
            threading.Event().wait()
        connection.send_bytes(msgspec.msgpack.encode(Weighed("yes", str(os.getpid()), True)))
