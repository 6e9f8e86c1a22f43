"""The box is what a Mac is, in the process that enters it and in those that it starts."""

import json
import resource
import subprocess
import sys

import mlx.core as mx
import pytest
from macbox.box import environment, lower_soft_limit
from macbox.facts import MACS
from macbox.system import MISSING, OPEN_MAX

FACTS = """
import ctypes, json, multiprocessing, os, pathlib, platform, resource, select, socket, sys

def facts():
    end, other = socket.socketpair()
    with end, other, socket.socket() as listener:
        end.setblocking(False)
        try:
            sent = sum(end.send(bytes(1024)) for _ in range(1000))
        except BlockingIOError:
            sent = end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    found = []
    for look in (open, os.stat, os.listdir, lambda path: os.open(path, os.O_RDONLY)):
        try:
            look("/proc/self")
            found.append(look)
        except FileNotFoundError:
            pass
    import mlx.core as mx
    return {
        "platform": [sys.platform, platform.system(), platform.machine()],
        "macos": platform.mac_ver()[0],
        "proc": len(found) + pathlib.Path("/proc/cpuinfo").exists(),
        "epoll": hasattr(select, "epoll"),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "unlimited": resource.getrlimit(resource.RLIMIT_NOFILE)[1] == resource.RLIM_INFINITY,
        "pair": sent,
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "info": mx.device_info(),
        "gpu": mx.default_device() == mx.gpu and mx.metal.is_available(),
    }

def child(connection):
    connection.send(facts())

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    of_child = ours.recv()
    process.join()
    print(json.dumps([facts(), of_child]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", MACS)
def test_box_holds_for_a_process_and_for_its_children(name, tmp_path):
    script = tmp_path / "facts.py"
    script.write_text(FACTS)
    result = subprocess.run(
        [sys.executable, str(script)],
        env=environment(name),
        preexec_fn=lower_soft_limit,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    own, of_child = json.loads(result.stdout)
    assert own == of_child
    mac = MACS[name]
    assert own["platform"] == ["darwin", "Darwin", "arm64"]
    assert own["macos"] == mac.macos
    assert (own["proc"], own["epoll"], own["files"], own["unlimited"]) == (0, False, 256, True)
    assert own["memory"] == mac.memory
    assert own["gpu"] and own["info"] == mac.device_info
    assert own["pair"] < 16_384


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sw_vers -productVersion", "sysctl -n hw.memsize"])
def test_box_has_the_commands_of_a_mac(command):
    for name, mac in MACS.items():
        result = subprocess.run(
            command.split(), env=environment(name), capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() in (mac.macos, str(mac.memory))


@pytest.mark.slow
def test_box_refuses_a_descriptor_limit_as_a_mac_does(tmp_path):
    code = (
        "import resource; from mlxnode.process.descriptors import raise_descriptor_limit;"
        "raise_descriptor_limit(); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment("small"),
        preexec_fn=lower_soft_limit,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "10240"


@pytest.mark.metal
def test_box_reports_what_mlx_reports_on_a_mac():
    info = mx.device_info()
    for mac in MACS.values():
        assert mac.device_info.keys() <= info.keys()
    assert info["max_recommended_working_set_size"] < info["memory_size"]


@pytest.mark.metal
@pytest.mark.parametrize("module", MISSING, ids=lambda module: module.__name__)
def test_box_lacks_what_a_mac_lacks(module):
    assert not [name for name in MISSING[module] if hasattr(module, name)]


@pytest.mark.metal
def test_box_has_the_limits_of_a_mac():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= OPEN_MAX
