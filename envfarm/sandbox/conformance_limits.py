"""Checks of `conformance`: the bounds on a sandbox hold, and it goes on being of use where one was hit."""

from contextlib import suppress

import anyio

from envfarm.errors import SandboxRefusedError
from envfarm.sandbox.conformance_material import (
    Check,
    ConformanceMaterial,
    demand,
    expect,
    expect_output,
    run_shell,
)
from envfarm.sandbox.contract import MEBIBYTE, WORKSPACE, Limits

_PROMPT_SECONDS = 20.0
_FORK_BOMB = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
_MANY_FORKS = """
import os, time
children = 0
while children < 400:
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        time.sleep(60)
    children += 1
print(children < 100)
"""


async def a_full_disk_is_held(material: ConformanceMaterial) -> None:
    """The workspace, /tmp and /dev/shm are bounded; a full disk is an error inside, and room comes back."""
    share = 3 if material.shares_one_disk else 9
    fill = f"for file in /tmp/a /dev/shm/b c; do head -c {share}M /dev/zero > $file || echo full; done"
    full = "full\n" if material.shares_one_disk else "full\n" * 3
    async with material.lease(limits=Limits(disk_bytes=8 * MEBIBYTE)) as sandbox:
        result = await run_shell(sandbox, fill)
        expect(result.stdout.decode(), full, f"which of three times {share} MiB a disk of 8 MiB holds")
        demand(b"No space left" in result.stderr, f"no word of the full disk: {result.stderr!r}")
        again = "rm /tmp/a c && head -c 1M /dev/zero > d && wc -c < d"
        await expect_output(sandbox, again, output=f"{MEBIBYTE}\n", what="room again")


async def exhausted_memory_is_held(material: ConformanceMaterial) -> None:
    """A program that takes more memory than allowed does not get it; the sandbox can be used further."""
    async with material.lease(limits=Limits(memory_bytes=192 * MEBIBYTE)) as sandbox:
        result = await run_shell(sandbox, "exec python3 -c 'x = bytearray(10**9); print(len(x))'")
        demand(result.exit_code != 0 and not result.stdout, "a program got five times its memory")
        demand(result.signal is None or result.out_of_memory, "a kill for want of memory is not told as such")
        fits = "python3 -c 'print(len(bytearray(5 * 10**7)))'"
        await expect_output(sandbox, fits, output="50000000\n", what="a program that fits")
        demand(not (await run_shell(sandbox, "kill -9 $$")).out_of_memory, "any kill is told as want of memory")


async def processes_are_held(material: ConformanceMaterial) -> None:
    """A process that forks for ever gets no more processes than allowed."""
    async with material.lease(limits=Limits(process_count=80)) as sandbox:
        result = await run_shell(sandbox, 'exec python3 -c "$1"', _MANY_FORKS)
        expect(result.stdout, b"True\n", "whether forking came to an end")
        bomb = await run_shell(sandbox, 'exec python3 -c "$1"', _FORK_BOMB, timeout_seconds=1.5)
        demand(bomb.timed_out, "the fork bomb ended by itself")
        demand(bomb.wall_seconds < _PROMPT_SECONDS, f"the fork bomb took {bomb.wall_seconds} s to be ended")
        await expect_output(sandbox, "echo alive", output="alive\n", what="the next command")


async def a_command_beside_a_fork_bomb_runs_or_is_refused(material: ConformanceMaterial) -> None:
    """Where one command takes all processes, another one runs or is refused by name; afterwards there is room again."""
    async with material.lease(limits=Limits(process_count=40)) as sandbox:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run_shell(sandbox, 'exec python3 -c "$1"', _FORK_BOMB, timeout_seconds=2.0))
            await anyio.sleep(0.7)
            for _ in range(5):
                with suppress(SandboxRefusedError):
                    await run_shell(sandbox, ":", timeout_seconds=_PROMPT_SECONDS)
        await expect_output(sandbox, "echo alive", output="alive\n", what="the next command")


async def file_size_is_held(material: ConformanceMaterial) -> None:
    """No file grows past its bound."""
    async with material.lease(limits=Limits(file_size_bytes=MEBIBYTE)) as sandbox:
        result = await run_shell(sandbox, "head -c 5M /dev/zero > large")
        demand(result.exit_code != 0, "a file larger than allowed was written")
        expect(len(await sandbox.read_file(WORKSPACE / "large")), MEBIBYTE, "bytes of the file")


async def processor_time_is_held(material: ConformanceMaterial) -> None:
    """A process that computes for ever is ended at its bound, by a signal."""
    async with material.lease(limits=Limits(cpu_seconds=1.0)) as sandbox:
        result = await run_shell(sandbox, "while :; do :; done", timeout_seconds=_PROMPT_SECONDS)
        demand(result.signal in {9, 24}, f"it was not ended by a signal: {result.exit_code}, {result.signal}")
        demand(not result.timed_out, "the wall clock ended it")


async def use_is_accounted(material: ConformanceMaterial) -> None:
    """Processor time and memory of a whole tree are told, those of grandchildren included."""
    burn = "import time\nwhile time.process_time() < 0.4: pass\nx = bytearray(10**8)"
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, 'sh -c \'python3 -c "$1"; true\' sh "$1"; true', burn)
        demand(0.4 <= result.cpu_seconds < 3, f"0.4 s of a grandchild were told as {result.cpu_seconds} s")  # noqa: PLR2004 -- as burnt
        demand(result.peak_memory_bytes >= 10**8, f"100 MB of a grandchild were told as {result.peak_memory_bytes}")
        demand(result.wall_seconds >= 0.3, f"{result.wall_seconds} s of wall clock")  # noqa: PLR2004 -- as burnt


LIMIT_CHECKS: tuple[Check, ...] = (
    a_full_disk_is_held,
    exhausted_memory_is_held,
    processes_are_held,
    a_command_beside_a_fork_bomb_runs_or_is_refused,
    file_size_is_held,
    processor_time_is_held,
    use_is_accounted,
)
