"""The hostfile and the table of an engine on several machines, checked at the start."""

import json

import pytest

from mlxnode.config.file import load_config
from mlxnode.errors import ConfigError

TWO = [{"ssh": "a", "ips": ["10.0.0.1"]}, {"ssh": "b", "ips": ["10.0.0.2"]}]


def load(folder, hosts=TWO, more="", engine=""):
    text = hosts if isinstance(hosts, str) else json.dumps(hosts)
    (folder / "hosts.json").write_text(text)
    config = folder / "config.toml"
    config.write_text(
        "[api]\nrequire_auth = false\n[engine]\n"
        f'{engine}\n[engine.distributed]\nhostfile = "hosts.json"\n{more}\n'
    )
    return load_config(config, environ={})


def test_a_hostfile_is_found_beside_the_configuration(tmp_path):
    distributed = load(tmp_path).config.engine.distributed
    assert distributed is not None and distributed.hostfile == str(tmp_path / "hosts.json")
    table = {"backend": "ring", "envs": ["A=1"], "hosts": TWO}
    assert load(tmp_path, table)


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ("{", "not valid JSON"),
        ("3", "the file: "),
        ([TWO[0]], "at least two hosts"),
        ([{"ips": ["1.1.1.1"]}, TWO[1]], "hosts.0.ssh: field required"),
        ([{"ssh": "a", "ips": "1.1.1.1"}, TWO[1]], "hosts.0.ips"),
        ([{"ssh": "a"}, TWO[1]], "hosts.0.ips: the ring needs an address"),
        ({"hosts": TWO, "backend": "carrier"}, "backend: "),
        ({"hosts": TWO, "backend": "mpi"}, "needs mpirun"),
        ({"hosts": TWO, "backend": "jaccl"}, "hosts.0.rdma: expected one RDMA device"),
    ],
)
def test_a_wrong_hostfile_is_refused_with_the_place(tmp_path, hosts, message):
    with pytest.raises(ConfigError, match=r"engine\.distributed\.hostfile") as error:
        load(tmp_path, hosts)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("more", "engine", "message"),
    [
        ("launch = false", "", "openssl rand"),
        ('key = "k"\nkey_file = "k"', "", "one of key and key_file"),
        ('key_file = "nowhere"', "", "engine.distributed.key_file"),
        ("", "prefix_cache_disk_gb = 1.0", "are for one machine"),
        ('backend = "jaccl"', "", "RDMA"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, more, engine, message):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, more=more, engine=engine)
    assert message in str(error.value)


def test_a_missing_hostfile_is_named(tmp_path):
    (tmp_path / "c.toml").write_text(
        '[api]\nrequire_auth = false\n[engine.distributed]\nhostfile = "nowhere.json"\n'
    )
    with pytest.raises(ConfigError, match=r"nowhere.json.*No such file"):
        load_config(tmp_path / "c.toml", environ={})
