"""Every agent runs jobs as the protocol says, over every road."""

import errno
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from types import ModuleType

import anyio
import pytest

from envfarm.errors import SandboxRefusedError
from envfarm.sandbox.client.connection import AgentClient
from envfarm.sandbox.client.frames import Fields, Kind, Status, Tag, encode_fields
from envfarm.sandbox.client.job import Identity, JobEnd, JobSpec, Stage, StreamEnd, StreamSpec, run_job, start_job

VARIABLES = {"PATH": os.environ["PATH"]}
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other users")


def shell(program: str, *arguments: str, **changes: object) -> JobSpec:
    return JobSpec(argv=["/bin/sh", "-c", program, "sh", *arguments], env=VARIABLES, **changes)  # type: ignore[arg-type]


def try_with(agents: ModuleType, kind: str, use: Callable[[AgentClient], Awaitable[None]]) -> None:
    async def run() -> None:
        with anyio.fail_after(60):
            async with agents.hold(kind) as (client, _):
                await use(client)

    anyio.run(run)


@asynccontextmanager
async def within_a_minute() -> AsyncIterator[None]:
    with anyio.fail_after(60):
        yield


def kept(end: JobEnd, descriptor: int = 1) -> bytes:
    return end.streams[descriptor].data


def test_exit_codes_and_signals_come_back(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        for code in (0, 1, 42, 126, 127, 128, 137, 255):
            end = await run_job(client, shell(f"exit {code}"))
            assert (end.exit_code, end.signal, end.failed_stage, end.timed_out) == (code, None, None, False)
        for number in (1, 6, 9, 11, 15):
            end = await run_job(client, shell(f"kill -{number} $$; sleep 5"))
            assert (end.exit_code, end.signal, end.out_of_memory) == (None, number, False)

    try_with(agents, kind, use)


def test_streams_come_back_byte_for_byte_and_apart(agents: ModuleType, kind: str) -> None:
    every = bytes(range(256)) * 300 + b"\xff\xfe\x80"

    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell("tee /dev/stderr; printf end >&2"), stdin=every)
        assert end.streams == {1: StreamEnd(data=every), 2: StreamEnd(data=every + b"end")}

    try_with(agents, kind, use)


@pytest.mark.parametrize("limit", [0, 1, 1001, 700_000])
def test_output_past_its_bound_keeps_both_ends_and_counts_the_rest(agents: ModuleType, kind: str, limit: int) -> None:
    size = 3_000_000
    whole = b"".join(b"%07d\n" % number for number in range(size // 8))

    async def use(client: AgentClient) -> None:
        streams = {1: StreamSpec(kept_bytes=limit), 2: StreamSpec(kept_bytes=limit, keeps_tail=False)}
        program = f"i=0; seq -f %07.0f 0 {size // 8 - 1} | tee /dev/stderr"
        end = await run_job(client, shell(program, streams=streams))
        head = limit - limit // 2
        tail = whole[len(whole) - limit // 2 :] if limit > 1 else b""
        assert kept(end) == whole[:head] + tail
        assert kept(end, 2) == whole[:limit]
        assert end.streams[1].dropped_bytes == end.streams[2].dropped_bytes == size - limit

    try_with(agents, kind, use)


@pytest.mark.parametrize("size", [999, 1000, 1001])
def test_output_around_its_bound_is_exact(agents: ModuleType, size: int) -> None:
    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell(f"head -c {size} /dev/zero", streams={1: StreamSpec(kept_bytes=1000)}))
        assert end.streams[1] == StreamEnd(data=bytes(min(size, 1000)), dropped_bytes=max(size - 1000, 0))

    for kind in ("c-unix", "python-unix"):
        try_with(agents, kind, use)


def test_standard_input_is_whole_and_ends(agents: ModuleType, kind: str) -> None:
    data = os.urandom(5_000_000)

    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell("sha256sum"), stdin=data)
        assert kept(end)[:64].decode() == hashlib.sha256(data).hexdigest()
        assert kept(await run_job(client, shell("cat"))) == b""
        assert (await run_job(client, shell("exit 3"), stdin=data)).exit_code == 3
        assert (await run_job(client, shell("exec <&-; sleep 0.1; exit 4"), stdin=data)).exit_code == 4

    try_with(agents, kind, use)


def test_a_timeout_ends_children_and_daemons(agents: ModuleType, kind: str) -> None:
    marker = agents.new_marker()
    program = "echo early; (setsid sleep $1 >/dev/null 2>&1 &); sleep $1 & sleep $1"

    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell(program, marker, timeout_seconds=0.5))
        assert (end.exit_code, end.signal, end.timed_out, kept(end)) == (None, 9, True, b"early\n")
        assert 0.5 <= end.wall_seconds < 10
        assert agents.living(marker) == []

    try_with(agents, kind, use)


def test_cancelling_a_call_ends_the_whole_tree(agents: ModuleType, kind: str) -> None:
    marker = agents.new_marker()

    async def use(client: AgentClient) -> None:
        with anyio.move_on_after(0.5) as scope:
            await run_job(client, shell("(setsid sleep $1 &) ; sleep $1", marker))
        assert scope.cancelled_caught
        assert agents.living(marker) == []
        assert (await run_job(client, shell("exit 5"))).exit_code == 5

    try_with(agents, kind, use)


def test_processes_that_outlive_their_program_live_or_end_as_asked(agents: ModuleType, kind: str) -> None:
    lives, ends = agents.new_marker(), agents.new_marker()

    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell("sleep $1 & echo done", lives))
        assert (end.exit_code, kept(end), end.left_processes) == (0, b"done\n", True)
        assert end.wall_seconds < 5
        end = await run_job(client, shell("(setsid sleep $1 &); echo done", ends, ends_leftovers=True))
        assert (end.exit_code, kept(end), end.left_processes) == (0, b"done\n", False)
        assert agents.living(ends) == []
        assert len(agents.living(lives)) == 1

    try_with(agents, kind, use)
    assert agents.dies(lives), "a process outlived the agent"


def test_what_leftovers_write_after_the_end_is_no_output_of_the_job(
    agents: ModuleType, kind: str, tmp_path: Path
) -> None:
    go, size, more = tmp_path / "go", 300_000, 400_000
    program = """
        (while [ ! -e "$1" ]; do sleep 0.01; done; head -c $3 /dev/zero | tr '\\0' l; sleep 60) &
        head -c $2 /dev/zero | tr '\\0' j
    """

    async def end_of(client: AgentClient, kept_bytes: int) -> JobEnd:
        spec = shell(program, str(go), str(size), str(more), streams={1: StreamSpec(kept_bytes=kept_bytes)})
        async with start_job(client, spec) as job:
            name = (Tag.JOB, job.name)
            ended = await client.request(Kind.WAIT, name, (Tag.WAIT_MS, 30_000), (Tag.INLINE_BYTES, 1000))
            go.touch()
            written = 0
            while written < size + more:
                at = ((Tag.DESCRIPTOR, 1), (Tag.OFFSET, written), (Tag.LENGTH, 1))
                written = (await client.request(Kind.READ, name, *at)).fields.number(Tag.SIZE)
            end = await job.collect(ended)
        go.unlink()
        return end

    async def use(client: AgentClient) -> None:
        end = await end_of(client, 1 << 20)
        assert end.streams[1] == StreamEnd(data=b"j" * size, dropped_bytes=0)
        end = await end_of(client, 200_000)
        assert end.streams[1] == StreamEnd(data=b"j" * 100_000, dropped_bytes=size - 100_000)

    try_with(agents, kind, use)


def test_a_request_that_no_frame_holds_is_refused_and_others_go_on(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        for stdin in (b"", bytes(1_000_000)):
            with pytest.raises(SandboxRefusedError, match="bytes"):
                await run_job(client, shell("exit 0", "x" * (4 << 20)), stdin=stdin)
        assert (await run_job(client, shell("exit 3"))).exit_code == 3
        assert client.cuts == 0

    try_with(agents, kind, use)


def test_an_agent_with_another_namespaces_proc_does_not_trust_it(agents: ModuleType) -> None:
    for kind in ("c-first-process", "python-first-process"):
        for own_proc in (True, False):
            with agents.launch(kind, own_proc=own_proc) as agent:
                facts = Fields(agent.peer().hello.fields).number(Tag.FACTS)
                assert (bool(facts & 1), bool(facts & 2)) == (True, own_proc)


def test_many_jobs_run_at_once(agents: ModuleType, kind: str) -> None:
    seen: dict[int, bytes] = {}

    async def use(client: AgentClient) -> None:
        async def one(number: int) -> None:
            seen[number] = kept(await run_job(client, shell("cat; sleep 0.2; echo $1", str(number)), stdin=b"in "))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)

    try_with(agents, kind, use)
    assert seen == {number: b"in %d\n" % number for number in range(100)}


def test_a_report_has_a_descriptor_of_its_own(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        streams = {3: StreamSpec(kept_bytes=4, keeps_tail=False), 9: StreamSpec(kept_bytes=100)}
        end = await run_job(client, shell("echo out; printf 0123456789 >&3; printf nine >&9", streams=streams))
        assert end.streams[3] == StreamEnd(data=b"0123", dropped_bytes=6)
        assert (kept(end), kept(end, 9)) == (b"out\n", b"nine")
        listing = await run_job(client, JobSpec(argv=["ls", "/proc/self/fd"], env=VARIABLES))
        assert kept(listing) == b"0\n1\n2\n3\n", "a job has no descriptor but its streams and ls its own"

    try_with(agents, kind, use)


def test_programs_that_cannot_run_say_why(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text\n")

    async def use(client: AgentClient) -> None:
        cases = (
            (JobSpec(argv=["no-such-program"], env=VARIABLES), Stage.PROGRAM, errno.ENOENT),
            (JobSpec(argv=[str(tmp_path / "missing")]), Stage.PROGRAM, errno.ENOENT),
            (JobSpec(argv=[str(plain)]), Stage.PROGRAM, errno.EACCES),
            (JobSpec(argv=["/usr"]), Stage.PROGRAM, errno.EACCES),
            (JobSpec(argv=["/bin/true"], cwd=PurePosixPath(tmp_path / "missing")), Stage.FOLDER, errno.ENOENT),
            (JobSpec(argv=["/bin/true"], cwd=PurePosixPath(plain)), Stage.FOLDER, errno.ENOTDIR),
        )
        for spec, stage, number in cases:
            end = await run_job(client, spec)
            assert (end.failed_stage, end.error_number, end.exit_code, end.signal) == (stage, number, None, None)

    try_with(agents, kind, use)


def test_arguments_variables_and_folder_are_exact(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    words = ["", "a b", "*", "$HOME", "line\nbreak", "--", "\u00fc\u4e2d", b"\xff\xfe".decode(errors="surrogateescape")]
    large = "x" * 100_000

    async def use(client: AgentClient) -> None:
        end = await run_job(client, JobSpec(argv=["/usr/bin/printf", "%s|", *words, large]))
        assert kept(end) == "".join(f"{word}|" for word in [*words, large]).encode(errors="surrogateescape")
        given = {"A": "b=c\nd", "EMPTY": ""}
        end = await run_job(client, JobSpec(argv=["/usr/bin/env", "-0"], env=given))
        assert kept(end) == b"A=b=c\nd\0EMPTY=\0"
        end = await run_job(client, JobSpec(argv=["/bin/pwd", "-P"], cwd=PurePosixPath(tmp_path)))
        assert kept(end).decode() == f"{tmp_path}\n"
        assert kept(await run_job(client, JobSpec(argv=["/bin/pwd"]))) == b"/\n"

    try_with(agents, kind, use)


def test_a_start_that_comes_twice_happens_once(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def use(client: AgentClient) -> None:
        def start(program: str) -> bytes:
            words = [(Tag.ARGUMENT, word) for word in ("/bin/sh", "-c", program)]
            return encode_fields([(Tag.JOB, "twice"), *words, (Tag.WAIT_MS, 10_000), (Tag.INLINE_BYTES, 100)])

        for _ in range(3):
            reply = await client.ask(Kind.START, start(f"echo ran >> {log}"))
            assert (reply.status, reply.fields.number(Tag.STATE)) == (Status.OK, 1)
        assert log.read_text() == "ran\n"
        other = await client.ask(Kind.START, start("true"))
        assert other.status == Status.CONFLICT
        client.forget_now("twice")
        again = await client.ask(Kind.START, start(f"echo again >> {log}"))
        assert again.status == Status.OK
        assert log.read_text() == "ran\nagain\n"

    try_with(agents, kind, use)


def test_what_was_forgotten_or_never_was_is_no_job(agents: ModuleType, kind: str) -> None:
    marker = agents.new_marker()

    async def use(client: AgentClient) -> None:
        async with start_job(client, shell("sleep $1", marker)) as job:
            client.forget_now(job.name)
            with pytest.raises(SandboxRefusedError, match="NO_SUCH_JOB"):
                await job.wait()
            assert await anyio.to_thread.run_sync(agents.dies, marker)
        for kind_of_request in (Kind.WAIT, Kind.SIGNAL, Kind.READ, Kind.STDIN):
            extra = {
                Kind.SIGNAL: [(Tag.SIGNAL, 9), (Tag.SERIAL, 1)],
                Kind.READ: [(Tag.DESCRIPTOR, 1), (Tag.OFFSET, 0), (Tag.LENGTH, 1)],
                Kind.STDIN: [(Tag.OFFSET, 0)],
            }.get(kind_of_request, [])
            reply = await client.ask(kind_of_request, encode_fields([(Tag.JOB, "never"), *extra]))
            assert reply.status == Status.NO_SUCH_JOB

    try_with(agents, kind, use)


def test_signals_reach_the_program_or_its_tree(agents: ModuleType, kind: str) -> None:
    marker = agents.new_marker()

    async def use(client: AgentClient) -> None:
        trap = "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.05; done"
        async with start_job(client, shell(trap)) as job:
            follow = job.follow(1)
            assert await anext(follow) == b"ready\n"
            await job.send_signal(signal.SIGUSR1)
            end = await job.wait()
            assert (end.exit_code, kept(end)) == (7, b"ready\ngot\n")
        async with start_job(client, shell("(setsid sleep $1 &); sleep $1", marker)) as job:
            while len(agents.living(marker)) < 2:  # noqa: ASYNC110 -- processes tell no event
                await anyio.sleep(0.01)
            await job.send_signal(signal.SIGTERM, whole_tree=True)
            assert (await job.wait()).signal == signal.SIGTERM
            assert await anyio.to_thread.run_sync(agents.dies, marker)

    try_with(agents, kind, use)


def test_a_signal_that_comes_twice_is_sent_once(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        program = "n=0; trap 'n=$((n+1)); echo $n' USR1; echo ready; while :; do sleep 0.05; done"
        async with start_job(client, shell(program)) as job:
            follow = job.follow(1)
            assert await anext(follow) == b"ready\n"
            for serial in (5, 5, 4):
                fields = ((Tag.JOB, job.name), (Tag.SIGNAL, signal.SIGUSR1), (Tag.SERIAL, serial))
                await client.request(Kind.SIGNAL, *fields)
                await anyio.sleep(0.2)
            job._signals = 9
            await job.send_signal(signal.SIGUSR1)
            seen = b""
            while not seen.endswith(b"2\n"):
                seen += await anext(follow)
            assert seen == b"1\n2\n"

    try_with(agents, kind, use)


def test_output_can_be_followed_while_it_is_written(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        async with start_job(client, shell("while read x; do echo got $x; done"), stdin_open=True) as job:
            follow = job.follow(1)
            for word in (b"one", b"two"):
                assert await job.feed(word + b"\n")
                assert await anext(follow) == b"got " + word + b"\n"
            await job.feed(b"", ends=True)
            assert [chunk async for chunk in follow] == []
            assert (await job.wait()).exit_code == 0

    try_with(agents, kind, use)


def test_bounds_hold(agents: ModuleType, kind: str, tmp_path: Path) -> None:
    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell("while :; do :; done", rlimits={0: 1}, timeout_seconds=20))
        assert (end.signal in {9, 24}, end.timed_out) == (True, False)
        large = shell("head -c 5000000 /dev/zero > large", rlimits={1: 1_000_000}, cwd=PurePosixPath(tmp_path))
        assert (await run_job(client, large)).exit_code != 0
        assert (tmp_path / "large").stat().st_size == 1_000_000
        assert kept(await run_job(client, shell("ulimit -Sn; ulimit -Hn", rlimits={7: 333}))) == b"333\n333\n"
        assert kept(await run_job(client, shell("ulimit -c"))) == b"0\n"

    try_with(agents, kind, use)


def test_a_tree_that_takes_too_much_memory_is_ended_and_told(agents: ModuleType, kind: str) -> None:
    takes = "exec python3 -c 'import time; x = bytearray(b\"x\") * 150_000_000; time.sleep(30)'"

    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell(takes, memory_bytes=60_000_000, timeout_seconds=25))
        assert (end.signal, end.out_of_memory, end.timed_out) == (9, True, False)
        fits = "exec python3 -c 'import time; x = bytearray(b\"x\") * 20_000_000; time.sleep(0.2)'"
        end = await run_job(client, shell(fits, memory_bytes=100_000_000))
        assert (end.exit_code, end.out_of_memory) == (0, False)

    try_with(agents, kind, use)


def test_use_is_told_for_the_whole_tree(agents: ModuleType, kind: str) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nx = bytearray(b'x') * 100_000_000"

    async def use(client: AgentClient) -> None:
        end = await run_job(client, shell('sh -c \'python3 -c "$1"; true\' sh "$1"; true', burn))
        assert 0.3 <= end.cpu_seconds < 5
        assert 100_000_000 <= end.peak_memory_bytes < 200_000_000
        assert end.wall_seconds >= 0.3
        small = await run_job(client, JobSpec(argv=["/bin/true"]))
        assert small.cpu_seconds < 0.1
        assert small.peak_memory_bytes < 60_000_000

    try_with(agents, kind, use)


@needs_root
def test_jobs_run_as_the_user_that_was_asked_for(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        identity = Identity(uid=NOBODY, gid=NOBODY, groups=(7, 8))
        end = await run_job(client, shell("id -u; id -g; id -G", identity=identity))
        assert kept(end) == b"65534\n65534\n65534 7 8\n"
        assert kept(await run_job(client, shell("id -u; id -G"))) == b"0\n0\n", "the caller's groups are dropped"
        quiet = shell("grep NoNewPrivs /proc/self/status", no_new_privileges=True)
        assert kept(await run_job(client, quiet)).split() == [b"NoNewPrivs:", b"1"]

    try_with(agents, kind, use)


@needs_root
def test_a_job_cannot_read_the_agents_memory_nor_end_it(agents: ModuleType, kind: str) -> None:
    async def use(client: AgentClient) -> None:
        program = "p=$(ps -o ppid= -p $PPID | tr -d ' '); cat /proc/$p/environ /proc/$p/mem; kill -9 $p $PPID; echo $?"
        end = await run_job(client, shell(program, identity=Identity(uid=NOBODY, gid=NOBODY)))
        assert kept(end) == b"1\n"
        assert kept(end, 2).count(b"Permission denied") == 2
        assert (await run_job(client, shell("exit 3"))).exit_code == 3

    try_with(agents, kind, use)


def test_killing_a_jobs_watcher_ends_its_tree_and_is_told(agents: ModuleType, kind: str) -> None:
    marker = agents.new_marker()

    async def use(client: AgentClient) -> None:
        program = "(setsid sleep $1 &); sleep $1 & sleep 0.2; kill -9 $PPID; sleep $1"
        end = await run_job(client, shell(program, marker, timeout_seconds=30))
        assert (end.exit_code, end.signal, end.unwatched, end.timed_out) == (None, 9, True, False)
        assert await anyio.to_thread.run_sync(agents.dies, marker)
        assert (await run_job(client, shell("exit 3"))).exit_code == 3

    try_with(agents, kind, use)


def test_a_cut_connection_loses_nothing(agents: ModuleType, socket_kind: str) -> None:
    data = os.urandom(3_000_000)

    async def use() -> None:
        async with within_a_minute(), agents.hold(socket_kind) as (client, _):

            async def cut() -> None:
                for _ in range(20):
                    await anyio.sleep(0.05)
                    if client._link is not None:
                        await client._link._stream.aclose()

            results: list[bytes] = []

            async def one(number: int) -> None:
                program = "sha256sum; for i in 1 2 3 4 5; do echo $1; sleep 0.1; done"
                results.append(kept(await run_job(client, shell(program, str(number)), stdin=data)))

            async with anyio.create_task_group() as group:
                group.start_soon(cut)
                for number in range(8):
                    group.start_soon(one, number)
            digest = hashlib.sha256(data).hexdigest()
            assert sorted(results) == [f"{digest}  -\n{f'{n}{chr(10)}' * 5}".encode() for n in range(8)]
            assert client.cuts >= 5

    anyio.run(use)


def test_an_agent_that_is_killed_is_lost_and_leaves_nothing(agents: ModuleType, kind: str) -> None:
    from envfarm.errors import SandboxLostError

    marker = agents.new_marker()

    async def use() -> None:
        async with within_a_minute(), agents.hold(kind, lease_seconds=3) as (client, agent):

            async def kill() -> None:
                while len(agents.living(marker)) < 2:  # noqa: ASYNC110 -- processes tell no event
                    await anyio.sleep(0.01)
                agent.process.kill()

            async with anyio.create_task_group() as group:
                group.start_soon(kill)
                with pytest.raises(SandboxLostError):
                    await run_job(client, shell("(setsid sleep $1 &); sleep $1", marker))
            with pytest.raises(SandboxLostError):
                await run_job(client, shell("true"))
        assert await anyio.to_thread.run_sync(agents.dies, marker), "processes outlived the agent"

    started = time.monotonic()
    anyio.run(use)
    assert time.monotonic() - started < 30
