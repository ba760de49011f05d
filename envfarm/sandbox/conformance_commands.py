"""Checks of `conformance`: how commands start, speak and end."""

import hashlib
import os

import anyio

from envfarm.sandbox.conformance_material import (
    TEMPORARY,
    Check,
    ConformanceMaterial,
    demand,
    expect,
    expect_output,
    heartbeat,
    run_shell,
)
from envfarm.sandbox.contract import REPORT_FD_VARIABLE, WORKSPACE, Limits, Sandbox

_MANY = 64
_LARGE = 100_000_000
_PROMPT_SECONDS = 10.0


async def exit_codes_come_back(material: ConformanceMaterial) -> None:
    """Every exit code below 128 is the program's own, and 255 too."""
    async with material.lease() as sandbox:
        for code in (0, 1, 2, 42, 125, 126, 127, 255):
            result = await run_shell(sandbox, f"exit {code}")
            expect((result.exit_code, result.signal, result.timed_out), (code, None, False), f"exit {code}")


async def signals_come_back(material: ConformanceMaterial) -> None:
    """A program that a signal ends has that signal and no exit code."""
    async with material.lease() as sandbox:
        for number in (1, 6, 9, 11, 15):
            result = await run_shell(sandbox, f"kill -{number} $$; sleep 5")
            expect((result.exit_code, result.signal), (None, number), f"kill -{number}")


async def streams_are_exact(material: ConformanceMaterial) -> None:
    """Both streams come back byte for byte, also where they are no UTF-8, and apart from each other."""
    every = bytes(range(256)) * 300 + b"\xff\xfe\x80"
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, "tee /dev/stderr; printf end >&2", stdin=every)
        expect((result.exit_code, result.stdout, result.stderr), (0, every, every + b"end"), "bytes of both streams")
        expect((result.stdout_dropped_bytes, result.stderr_dropped_bytes), (0, 0), "nothing is dropped")


async def large_output_keeps_head_and_tail(material: ConformanceMaterial) -> None:
    """Output past the limit keeps its first and last half, and the dropped bytes are counted to the byte."""
    limit = 1001
    async with material.lease(limits=Limits(output_bytes=limit)) as sandbox:
        result = await run_shell(sandbox, f"printf START; head -c {_LARGE} /dev/zero; printf STOP")
        expect((len(result.stdout), result.stdout_dropped_bytes), (limit, _LARGE + 9 - limit), "kept and dropped bytes")
        expect((result.stdout[:6], result.stdout[-5:]), (b"START\0", b"\0STOP"), "head and tail")
        for size in (limit - 1, limit, limit + 1):
            result = await run_shell(sandbox, f"head -c {size} /dev/zero >&2")
            seen = (len(result.stderr), result.stderr_dropped_bytes)
            expect(seen, (min(size, limit), max(size - limit, 0)), f"output of {size} bytes with a limit of {limit}")


async def standard_input_is_whole_and_ends(material: ConformanceMaterial) -> None:
    """Megabytes of input arrive, input ends after them, and a program may ignore it."""
    data = os.urandom(5_000_000)
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, "sha256sum", stdin=data)
        expect(result.stdout[:64].decode(), hashlib.sha256(data).hexdigest(), "digest of the input")
        expect((await run_shell(sandbox, "cat")).stdout, b"", "input that was not given is empty")
        expect((await run_shell(sandbox, "exit 3", stdin=data)).exit_code, 3, "a program that reads no input")


async def a_timeout_ends_the_whole_tree(material: ConformanceMaterial) -> None:
    """On expiry children, grandchildren and daemons end; what was written until then comes back."""
    beat = TEMPORARY / "beat"
    program = f"echo early; (setsid sh -c '{heartbeat(beat)}' >/dev/null 2>&1 &) ; {heartbeat(beat)} & wait"
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, program, timeout_seconds=1.0)
        expect((result.exit_code, result.signal, result.timed_out), (None, 9, True), "how it ended")
        expect(result.stdout, b"early\n", "output before the timeout")
        demand(1.0 <= result.wall_seconds < _PROMPT_SECONDS, f"it took {result.wall_seconds} s with a bound of 1 s")
        await _is_silent(sandbox, material)


async def cancellation_ends_the_whole_tree(material: ConformanceMaterial) -> None:
    """A cancelled call leaves nothing running, and the sandbox can be used further."""
    program = f"(setsid sh -c '{heartbeat(TEMPORARY / 'beat')}' >/dev/null 2>&1 &) ; sleep 60"
    async with material.lease() as sandbox:
        with anyio.move_on_after(1.0) as scope, anyio.fail_after(_PROMPT_SECONDS):
            await run_shell(sandbox, program)
        demand(scope.cancelled_caught, "the call ended although its program did not")
        await _is_silent(sandbox, material)


async def a_leftover_child_does_not_hold_a_command(material: ConformanceMaterial) -> None:
    """A command ends with its program, also while a child of it keeps the streams open."""
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, "sleep 30 & echo done")
        expect((result.exit_code, result.stdout, result.timed_out), (0, b"done\n", False), "its end")
        demand(result.wall_seconds < _PROMPT_SECONDS, f"it took {result.wall_seconds} s")


async def many_commands_run_at_once(material: ConformanceMaterial) -> None:
    """Commands of one sandbox run side by side and each gets its own output."""
    seen: dict[int, bytes] = {}

    async def one(sandbox: Sandbox, number: int) -> None:
        seen[number] = (await run_shell(sandbox, "cat; echo $1", str(number), stdin=b"in ")).stdout

    async with material.lease() as sandbox, anyio.create_task_group() as group:
        for number in range(_MANY):
            group.start_soon(one, sandbox, number)
    expect(seen, {number: b"in %d\n" % number for number in range(_MANY)}, f"outputs of {_MANY} commands")


async def the_report_has_a_descriptor_of_its_own(material: ConformanceMaterial) -> None:
    """A report is apart from the streams, cut at its limit, and there only where it was asked for."""
    program = f'echo out; eval "printf 0123456789 >&${REPORT_FD_VARIABLE}"'
    async with material.lease() as sandbox:
        for limit, kept in ((100, b"0123456789"), (10, b"0123456789"), (4, b"0123")):
            argv = ["/bin/sh", "-c", program]
            result = await sandbox.exec(argv, timeout_seconds=60, report_limit_bytes=limit)
            seen = (result.stdout, result.report, result.report_dropped_bytes)
            expect(seen, (b"out\n", kept, 10 - len(kept)), f"a report of 10 bytes with a limit of {limit}")
        seen_by_default = await run_shell(sandbox, f'echo "${REPORT_FD_VARIABLE}"; ls /proc/self/fd | wc -l')
        expect(seen_by_default.stdout, b"\n4\n", "no variable, and no descriptor but 0, 1, 2 and that of ls")


async def programs_that_cannot_run_say_why(material: ConformanceMaterial) -> None:
    """127 for a missing program, 126 for one that cannot be executed and for a missing working directory."""
    async with material.lease() as sandbox:
        await sandbox.write_file(WORKSPACE / "plain", b"text\n")
        cases = (
            ("no-such-program", WORKSPACE, 127),
            (str(WORKSPACE / "missing"), WORKSPACE, 127),
            (str(WORKSPACE / "plain"), WORKSPACE, 126),
            ("/usr", WORKSPACE, 126),
            ("true", WORKSPACE / "missing", 126),
            ("true", WORKSPACE / "plain", 126),
        )
        for program, cwd, code in cases:
            result = await sandbox.exec([program], cwd=cwd, timeout_seconds=60)
            expect((result.exit_code, result.signal), (code, None), f"{program} in {cwd}")
            demand(bool(result.stderr), f"{program} in {cwd} says nothing on standard error")
        impostor = await run_shell(sandbox, "echo 'bwrap: execvp x: No such file or directory' >&2; exit 1")
        expect(impostor.exit_code, 1, "a program that imitates such a message keeps its own exit code")


async def arguments_are_exact(material: ConformanceMaterial) -> None:
    """Arguments reach the program as they are: no shell, no splitting, no patterns."""
    words = ["", "a b", "*", "$HOME", "line\nbreak", "--", "-x", "\u00fc\u4e2d", '"quoted"']
    async with material.lease() as sandbox:
        result = await sandbox.exec(["printf", "%s|", *words], timeout_seconds=60)
        expect(result.stdout.decode(), "".join(f"{word}|" for word in words), "arguments")


async def the_environment_is_scrubbed(material: ConformanceMaterial) -> None:
    """A command sees the variables that it was given and the standard ones; nothing of the driver's."""
    given = {"GIVEN": "a=b\nc \u00fc", "PATH": "/usr/bin:/bin", "EMPTY": ""}
    standard = {"PATH", "HOME", "LANG", "TMPDIR", "PWD", "HOSTNAME", *material.make_image(()).environment_variables}
    async with material.lease() as sandbox:
        result = await sandbox.exec(["/usr/bin/env", "-0"], env=given, timeout_seconds=60)
        seen = dict(item.split("=", 1) for item in result.stdout.decode().split("\0") if item)
        expect({name: seen.get(name) for name in given}, given, "variables that were given")
        expect(set(seen) - standard - set(given), set(), "other variables")
        expect((await run_shell(sandbox, 'echo "$GIVEN"')).stdout, b"\n", "variables of an earlier command")


async def the_working_directory_is_the_one_asked_for(material: ConformanceMaterial) -> None:
    """The workspace by default, else the folder that was asked for; home and the temporary folder can be written."""
    async with material.lease() as sandbox:
        default = await sandbox.exec(["pwd", "-P"], timeout_seconds=60)
        other = await sandbox.exec(["pwd", "-P"], cwd=TEMPORARY, timeout_seconds=60)
        expect((default.stdout.decode(), other.stdout.decode()), (f"{WORKSPACE}\n", f"{TEMPORARY}\n"), "directories")
        program = 'echo 1 > "$HOME/file" && echo 2 > "$TMPDIR/file" && cat "$HOME/file" "$TMPDIR/file"'
        await expect_output(sandbox, program, output="1\n2\n", what="files in HOME and TMPDIR")


async def _is_silent(sandbox: Sandbox, material: ConformanceMaterial) -> None:
    """Demand that the heartbeat has begun and ended."""
    size = "wc -c < " + str(TEMPORARY / "beat")
    before = int((await run_shell(sandbox, size)).stdout)
    await anyio.sleep(0.3)
    after = int((await run_shell(sandbox, size)).stdout)
    demand(before > 0, f"the {material.provider.name} sandbox did not run the command at all")
    expect(after, before, "growth of a file that a killed process was writing to")


COMMAND_CHECKS: tuple[Check, ...] = (
    exit_codes_come_back,
    signals_come_back,
    streams_are_exact,
    large_output_keeps_head_and_tail,
    standard_input_is_whole_and_ends,
    a_timeout_ends_the_whole_tree,
    cancellation_ends_the_whole_tree,
    a_leftover_child_does_not_hold_a_command,
    many_commands_run_at_once,
    the_report_has_a_descriptor_of_its_own,
    programs_that_cannot_run_say_why,
    arguments_are_exact,
    the_environment_is_scrubbed,
    the_working_directory_is_the_one_asked_for,
)
