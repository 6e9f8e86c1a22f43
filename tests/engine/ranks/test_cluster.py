"""Rank 0 while the ranks come together: who is admitted, and what is refused by name."""

import threading

import pytest
from support.ranks import free_ports, write_hostfile

from mlxnode.config.hostfile import Hostfile
from mlxnode.config.several import DistributedConfig
from mlxnode.config.tables import EngineConfig
from mlxnode.engine.ranks.cluster import Cluster
from mlxnode.engine.ranks.group import variables, versions
from mlxnode.engine.ranks.handshake import connect
from mlxnode.errors import NodeError
from mlxnode.messages.message import encode
from mlxnode.messages.ranks import Hello, Refused, to_rank


@pytest.fixture
def config(tmp_path):
    return DistributedConfig.model_validate(
        {
            "hostfile": str(write_hostfile(tmp_path, 3)),
            "launch": False,
            "key": "k",
            "port": free_ports(4),
            "start_timeout": 5.0,
        }
    )


def answers(config, *hellos):
    """What rank 0 answers to each, and why it gives up."""
    told, errors, said = [], [], threading.Event()

    def form():
        try:
            Cluster(config, lambda figures: None, lambda: None).form(
                EngineConfig(), lambda text: said.set()
            )
        except NodeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=form)
    thread.start()
    assert said.wait(10)
    for hello in hellos:
        connection = connect("127.0.0.1", config.port, b"k")
        connection.send_bytes(encode(hello))
        told.append(connection)
    thread.join(20)
    replies = []
    for connection in told:
        with connection:
            try:
                replies.append(to_rank.decode(connection.recv_bytes()))
            except (EOFError, OSError):
                replies.append(None)
    return replies, errors


@pytest.mark.parametrize("name", ["mlxnode", "mlx", "mlx-lm"])
def test_other_versions_are_refused_by_name(config, name):
    ours = versions()
    replies, errors = answers(config, Hello(2, "there", ours | {name: "0.1"}))
    reason = f"rank 2 (127.0.0.1) has {name} 0.1, rank 0 (127.0.0.1) {ours[name]}"
    assert errors == [f"engine.distributed: {reason}"]
    assert replies == [Refused(reason)]


def test_ranks_that_are_taken_or_unknown_are_refused_and_missing_ones_named(config):
    config = config.model_copy(update={"start_timeout": 1.5})
    hello = Hello(1, "there", versions())
    replies, errors = answers(config, hello, hello, Hello(3, "there", versions()))
    reasons = {reply.reason for reply in replies if isinstance(reply, Refused)}
    assert any("another process is rank 1" in reason for reason in reasons)
    assert any("there is no rank 3" in reason for reason in reasons)
    assert "rank 2 (127.0.0.1) did not connect within 1.5 s" in errors[0]


def test_variables_are_those_of_mlx_launch():
    hosts = [
        {"ssh": "a", "ips": ["10.0.0.1", "10.0.1.1"], "rdma": [None, "rdma_en2"]},
        {"ssh": "b", "ips": ["10.0.0.2"], "rdma": ["rdma_en2", None]},
    ]
    hostfile = Hostfile.model_validate({"hosts": hosts, "envs": ["MLX_METAL_FAST_SYNCH=1"]})
    values, files = variables(hostfile, "ring", 40)
    assert values == {"MLX_METAL_FAST_SYNCH": "1"}
    assert files == {"MLX_HOSTFILE": '[["10.0.0.1:40", "10.0.1.1:41"], ["10.0.0.2:42"]]'}
    values, files = variables(hostfile, "jaccl-ring", 40)
    assert values["MLX_JACCL_COORDINATOR"] == "10.0.0.1:40"
    assert values["MLX_JACCL_RING"] == "1"
    assert files == {"MLX_IBV_DEVICES": '[[null, "rdma_en2"], ["rdma_en2", null]]'}
