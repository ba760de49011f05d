"""What a closed group of services reaches and tells outside of itself: nothing."""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.docker.service_group import addresses_of_machine

Make = Callable[..., Path]


@pytest.fixture
def make(make_service_task: Make) -> Make:
    """Write a task with services and no network."""
    return make_service_task


PROBE = """\
#!/bin/sh
python3 /opt/reach.py {targets} > /tmp/main.txt
python3 /opt/ask.py http://db/ > /tmp/name.txt
cat /shared/up >> /tmp/name.txt
cat /tmp/*.txt
raw="import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
python3 -c "$raw" 2> /dev/null && exit 1
grep -v " lo$" /proc/net/if_inet6 && exit 1
[ -e /shared/asked ] && [ "$(cat /tmp/name.txt)" = mendedup ] && ! grep -q reached /tmp/main.txt \\
    && echo 1 > /logs/verifier/reward.txt
"""


def targets_of(port: int) -> str:
    return " ".join(f"{address}:{port}" for address in (*addresses_of_machine(), "172.17.0.1", "1.1.1.1"))


@pytest.mark.parametrize("mode", ["no-network", "allowlist"])
def test_nothing_of_this_machine_or_outside_is_reached_from_a_closed_group(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType, mode: str
) -> None:
    hosts = 'allowed_hosts = ["example.org"]\n' if mode == "allowlist" else ""
    with service_tasks.listener() as port:
        targets = targets_of(port)
        inside = f"python3 /opt/reach.py {targets} | grep -q reached"
        files = {
            "task.toml": f'[environment]\nnetwork_mode = "{mode}"\n{hosts}'
            f'[[verifier.collect]]\nservice = "db"\ncommand = "if {inside}; then exit 1; fi; touch /shared/asked"\n',
            "tests/test.sh": PROBE.format(targets=targets),
        }
        verdict = foreign_tasks.grade_task(make(files), foreign_tasks.NO_OP)
    assert verdict.reward == 1.0, verdict
    assert not [item for item in verdict.components if "collect command failed" in item.rationale]


SHOUT = """\
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as shouting:
    shouting.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for address in ("255.255.255.255", "224.0.0.1"):
        shouting.sendto(sys.argv[1].encode(), (address, int(sys.argv[2])))
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or Path("/proc/sys/net/ipv4/conf/all/rp_filter").read_text().strip() == "2",
    reason="only root can have the bridge drop them, where the machine asks for no weaker filter on all interfaces",
)
def test_nothing_of_this_machine_hears_what_a_closed_group_tells_everybody(
    make: Make, foreign_tasks: ModuleType
) -> None:
    heard = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing:
        hearing.bind(("0.0.0.0", 0))  # noqa: S104 -- that nobody inside reaches it is the test
        hearing.settimeout(1.0)
        shout = f"python3 /app/shout.py {{}} {hearing.getsockname()[1]}"
        files = {
            "environment/shout.py": SHOUT,
            "environment/Dockerfile": f"FROM {foreign_tasks.BASE}\nWORKDIR /app\nCOPY shout.py ask.py /app/\n",
            "tests/test.sh": f"#!/bin/sh\n{shout.format('main')} && echo 1 > /logs/verifier/reward.txt\n",
        }
        verdict = foreign_tasks.grade_task(make(files), foreign_tasks.NO_OP)
        with suppress(TimeoutError):
            while True:
                heard.append(hearing.recv(100))
    assert (verdict.reward, heard) == (1.0, [])


def test_the_probe_of_reach_tells_a_public_group(
    make: Make, foreign_tasks: ModuleType, service_tasks: ModuleType
) -> None:
    with service_tasks.listener() as port:
        script = f"#!/bin/sh\npython3 /opt/reach.py {targets_of(port)} | grep -q reached && echo 1 > "
        files = {"task.toml": "[environment]\n", "tests/test.sh": script + "/logs/verifier/reward.txt\n"}
        assert foreign_tasks.grade_task(make(files), foreign_tasks.NO_OP).reward == 1.0


async def let_pass(live: object, name: str) -> None:
    """Refuse nothing."""


def test_a_group_whose_network_is_open_is_not_given_as_closed(
    make: Make, foreign_tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envfarm.sandbox.docker import service_group

    made = service_group.create_network

    def open_network(engine: Engine, name: str, labels: Mapping[str, str], **_: bool) -> str:
        return made(engine, name, labels, is_closed=False)

    monkeypatch.setattr(service_group, "create_network", open_network)
    failure = foreign_tasks.grade_task(make(), foreign_tasks.NO_OP).failure
    assert failure.code == "sandbox_start"
    assert "this machine's address" in failure.message
    monkeypatch.setattr(service_group, "_refuse_shared", let_pass)
    failure = foreign_tasks.grade_task(make(), foreign_tasks.NO_OP).failure
    assert failure.code == "sandbox_start"
    assert "not closed: " in failure.message
