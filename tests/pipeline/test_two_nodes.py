"""Two machines that share nothing but a folder, one of them cut off at work: the same bits.

Each is a network namespace with a /tmp of its own, for which root, `ip` and `unshare` are needed. Two processes of
one machine share /tmp and a loopback on which no packet is lost; here a worker vanishes without closing a connection.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import distributed
import numpy as np
import pytest
from noise_field import noise_disc

from szeek.filter.snrmaps import filter_sky
from szeek.sky.skymaps import SkyMaps

ROOT = Path(__file__).parents[2]
#: A machine whose network says nothing for so long is lost; Dask takes no less than 11 s.
PATIENCE = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}
_HANGS_S = 180.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass
class Node:
    """A network namespace, joined to this one by a cable: 10.77.k.1 is here, 10.77.k.2 there."""

    number: int

    @property
    def name(self) -> str:
        return f"szeek-{os.getpid()}-{self.number}"

    @property
    def cable(self) -> str:
        return f"sz{os.getpid() % 100000}n{self.number}"

    def make(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("addr", "add", f"10.77.{self.number}.1/24", "dev", self.cable)
        ip("link", "set", self.cable, "up")
        ip("-n", self.name, "addr", "add", f"10.77.{self.number}.2/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.name, "link", "set", device, "up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def cut_off(self) -> None:
        ip("link", "set", self.cable, "down")

    def start_worker(self, port: int) -> subprocess.Popen[bytes]:
        dask = f"{sys.executable} -m distributed.cli.dask_worker tcp://10.77.{self.number}.1:{port}"
        options = f"--host 10.77.{self.number}.2 --nthreads 1 --no-nanny --no-dashboard --local-directory /tmp/dask"
        own_tmp = "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp"
        shell = ["unshare", "--mount", "sh", "-c", f"{own_tmp} && exec {dask} {options}"]
        return start(["ip", "netns", "exec", self.name, *shell])


def start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **PATIENCE, "TMPDIR": "/tmp"}
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere, start_new_session=True)


@pytest.fixture
def shared_folder():
    """Outside /tmp, which no two nodes share."""
    (ROOT / ".scratch").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir=ROOT / ".scratch"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nodes():
    if sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("needs root, ip and unshare for network namespaces")
    pair = [Node(1), Node(2)]
    try:
        try:
            for node in pair:
                node.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield pair
    finally:
        for node in pair:
            node.remove()


@pytest.fixture
def cluster(nodes):
    """A client of a scheduler here, with a worker on each node."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "0.0.0.0", "--port", str(port)]
    processes = [start([*command, "--no-dashboard"])]
    hangs = threading.Timer(_HANGS_S, os.killpg, (processes[0].pid, signal.SIGKILL))  # a failure, not an endless wait
    hangs.start()
    try:
        processes += [node.start_worker(port) for node in nodes]
        with distributed.Client(f"tcp://127.0.0.1:{port}", timeout="60s") as client:
            client.wait_for_workers(2, timeout=60)
            yield client
    finally:
        hangs.cancel()
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_node_that_is_cut_off_changes_no_bit(cluster, nodes, shared_folder):
    maps = noise_disc(256, 20.0)
    mapped = SkyMaps.open(maps.save(shared_folder / "maps"))
    assert cluster.run(os.listdir, "/tmp") == {f"tcp://10.77.{k}.2:{port}": ["dask"] for k, port in ports(cluster)}
    told = []

    def watch(stage, done, total, detail):
        told.append((done, total))
        if done == 2:
            nodes[1].cut_off()

    there = filter_sky(mapped, (7.0,), client=cluster, progress=watch)
    here = filter_sky(maps, (7.0,))
    np.testing.assert_array_equal(there.maps.snr, here.maps.snr)
    assert list(there.states) == list(here.states)
    for pixel, state in here.states.items():
        np.testing.assert_array_equal(there.states[pixel].unit, state.unit)
    # it was at work when it vanished, and what it had was done again by the other
    assert told[-1][0] == told[-1][1] > 10
    assert [address for address, _ in ports(cluster)] == [1]


def ports(client: distributed.Client) -> list[tuple[int, str]]:
    """Number of the node and port of each worker that the scheduler knows."""
    addresses = client.scheduler_info(n_workers=-1)["workers"]
    return sorted((int(address.split(".")[2]), address.rpartition(":")[2]) for address in addresses)
