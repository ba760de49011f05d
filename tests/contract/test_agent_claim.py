"""The first claim wins, a lease that is not renewed ends everything, and the agent's ends are told apart."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from types import ModuleType

import anyio
import pytest

from envfarm.errors import SandboxLostError, SandboxStartError, SandboxTakenError
from envfarm.sandbox.client.connection import open_agent
from envfarm.sandbox.client.frames import Fields, Kind, Status, Tag
from envfarm.sandbox.client.job import JobSpec, run_job
from envfarm.sandbox.client.link import Claim
from envfarm.sandbox.client.roads import UnixRoad

ENDED, BAD_USAGE, CANNOT_LISTEN, LEASE_EXPIRED, UNCLAIMED, TERMINATED, CUT = 0, 2, 3, 10, 11, 12, 13


def start_sleep(agents: ModuleType, peer: object, marker: str) -> None:
    words = ("/bin/sh", "-c", f"(setsid sleep {marker} &); sleep {marker}")
    path = (Tag.VARIABLE, f"PATH={os.environ['PATH']}")
    answer = peer.ask(Kind.START, (Tag.JOB, "sleep"), *[(Tag.ARGUMENT, word) for word in words], path)  # type: ignore[attr-defined]
    assert answer.status == Status.OK
    deadline = time.monotonic() + 10
    while len(agents.sleeping(marker)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(agents.sleeping(marker)) == 2


def test_the_first_claim_wins_and_others_are_told_who_has_it(agents: ModuleType, socket_kind: str) -> None:
    with agents.launch(socket_kind) as agent:
        peer = agents.bound_peer(agent)
        for key in (agents.KEY, os.urandom(32)):
            other = agent.peer()
            answer = other.bind("another", key)
            assert (Status(answer.status), Fields(answer.fields).text(Tag.CLAIM)) == (Status.HELD, "test")
            assert other.is_closed()
        thief = agent.peer()
        assert thief.bind("test", os.urandom(32)).status == Status.HELD, "the name alone is no claim"
        assert peer.ask(Kind.PING).status == Status.OK
        again = agent.peer()
        assert again.bind().status == Status.OK, "a bind whose answer was lost can be made again"
        assert peer.is_closed(), "who joins takes the place of the older connection"
        assert again.ask(Kind.PING).status == Status.OK


def test_of_many_racing_claims_exactly_one_wins(agents: ModuleType, socket_kind: str) -> None:
    rounds = 20 if socket_kind.startswith("c-") else 3
    for _ in range(rounds):
        with agents.launch(socket_kind) as agent:
            peers = [agent.peer() for _ in range(8)]
            answers: list[tuple[str, Status, str]] = []
            barrier = threading.Barrier(len(peers))

            def race(
                number: int, peers: list[object] = peers, answers: list[tuple[str, Status, str]] = answers
            ) -> None:
                barrier.wait()  # noqa: B023 -- of this round
                answer = peers[number].bind(f"claim {number}", bytes([number]) * 32)  # type: ignore[attr-defined]
                told = Fields(answer.fields).text(Tag.CLAIM)
                answers.append((f"claim {number}", Status(answer.status), told))

            threads = [threading.Thread(target=race, args=(number,)) for number in range(len(peers))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            winners = [name for name, status, _ in answers if status == Status.OK]
            assert len(winners) == 1
            assert {(status, told) for _, status, told in answers if status != Status.OK} == {(Status.HELD, winners[0])}


def test_a_lease_that_is_not_renewed_ends_everything(agents: ModuleType, direct_kind: str) -> None:
    marker = agents.new_marker()
    with agents.launch(direct_kind) as agent:
        peer = agent.peer()
        assert peer.bind(lease_ms=4000).status == Status.OK
        start_sleep(agents, peer, marker)
        for _ in range(4):
            time.sleep(1.5)
            assert peer.ask(Kind.PING).status == Status.OK
        renewed = time.monotonic()
        assert len(agents.sleeping(marker)) == 2
        assert agent.exit_code() == LEASE_EXPIRED
        assert 3.8 <= time.monotonic() - renewed < 14.4
        assert agents.dies(marker, 1.0)
        assert agent.path is None or not agent.path.exists()


def test_refused_frames_renew_no_lease(agents: ModuleType, socket_kind: str) -> None:
    with agents.launch(socket_kind) as agent:
        peer = agent.peer()
        assert peer.bind(lease_ms=1000).status == Status.OK
        started = time.monotonic()
        while agent.process.poll() is None and time.monotonic() - started < 8:
            with contextlib.suppress(OSError, EOFError):
                agent.peer().bind("another", os.urandom(32))
            time.sleep(0.05)
        assert agent.process.poll() == LEASE_EXPIRED
        assert time.monotonic() - started < 8


def test_the_client_keeps_a_short_lease_alive(agents: ModuleType, kind: str) -> None:
    async def run() -> None:
        async with agents.hold(kind, lease_seconds=1.5) as (client, _):
            end = await run_job(client, JobSpec(argv=["/bin/sleep", "3"]))
            assert (end.exit_code, client.cuts) == (0, 0)

    anyio.run(run)


def test_an_agent_that_nobody_claims_ends(agents: ModuleType, socket_kind: str) -> None:
    with agents.launch(socket_kind, "--unclaimed-seconds", "1") as agent:
        assert agent.exit_code() == UNCLAIMED
    with agents.launch(socket_kind, "--unclaimed-seconds", "1") as agent:
        agents.bound_peer(agent)
        time.sleep(1.5)
        assert agent.process.poll() is None


def test_end_is_answered_when_nothing_is_left(agents: ModuleType, direct_kind: str) -> None:
    marker = agents.new_marker()
    with agents.launch(direct_kind) as agent:
        peer = agents.bound_peer(agent)
        start_sleep(agents, peer, marker)
        assert peer.ask(Kind.END).status == Status.OK
        assert agents.living(marker) == []
        assert agent.exit_code() == ENDED
        assert agent.path is None or not agent.path.exists()


def test_sigterm_ends_everything(agents: ModuleType, child_kind: str) -> None:
    marker = agents.new_marker()
    with agents.launch(child_kind) as agent:
        start_sleep(agents, agents.bound_peer(agent), marker)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.exit_code() == TERMINATED
        assert agents.dies(marker, 1.0)


def test_the_end_of_standard_input_ends_everything(agents: ModuleType) -> None:
    for kind in ("c-stdio", "python-stdio"):
        marker = agents.new_marker()
        with agents.launch(kind) as agent:
            start_sleep(agents, agents.bound_peer(agent), marker)
            agent.process.stdin.close()
            assert agent.exit_code() == CUT
            assert agents.dies(marker, 1.0)


def test_usage_is_told(agents: ModuleType) -> None:
    for kind in ("c-unix", "python-unix"):
        for words in (
            [],
            ["--unix"],
            ["--stdio", "--tcp", "127.0.0.1:0"],
            ["--what"],
            ["--unix", "/a", "--unclaimed-seconds", "x"],
        ):
            done = subprocess.run([*agents.words_of(kind), *words], capture_output=True, check=False)
            assert (done.returncode, done.stdout) == (BAD_USAGE, b"")
            assert b"usage" in done.stderr
        for words in (
            ["--unix", "/no/such/folder/socket"],
            ["--tcp", "nonsense"],
            ["--tcp", "192.0.2.1:1"],
            ["--relay", "/no/socket"],
        ):
            done = subprocess.run([*agents.words_of(kind), *words], capture_output=True, check=False)
            assert (done.returncode, done.stderr.count(b"\n")) == (CANNOT_LISTEN, 1)


def test_the_client_says_who_has_a_taken_agent_and_when_none_is_there(agents: ModuleType) -> None:
    claim = Claim(name="late", key=os.urandom(32), lease_seconds=5)

    async def run() -> None:
        with agents.launch("c-unix") as agent:
            agents.bound_peer(agent)
            with pytest.raises(SandboxTakenError) as caught:
                async with open_agent(agent.road(), claim):
                    pass
            assert caught.value.holder == "test"
            path = agent.path
        with pytest.raises(SandboxStartError):
            async with open_agent(UnixRoad(path), claim, start_seconds=0.3):
                pass

    anyio.run(run)


def test_another_agent_at_the_same_place_is_not_taken_for_the_first(agents: ModuleType) -> None:
    claim = Claim(name="test", key=agents.KEY, lease_seconds=20)

    async def run() -> None:
        with agents.launch("c-unix") as first, agents.launch("c-unix") as second:
            async with open_agent(first.road(), claim) as client:
                agents.bound_peer(second)
                second.path.rename(first.path)
                first.process.kill()
                with anyio.fail_after(15), pytest.raises(SandboxLostError, match="another one"):
                    await run_job(client, JobSpec(argv=["/bin/sleep", "30"]))

    anyio.run(run)
