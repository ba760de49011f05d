"""Checks of `conformance`: files that are moved in and out."""

import anyio

from envfarm.errors import SandboxLostError
from envfarm.records.image import Folder
from envfarm.sandbox.conformance_material import (
    TEMPORARY,
    BrokenContractError,
    Check,
    ConformanceMaterial,
    demand,
    expect,
    expect_output,
    run_shell,
)
from envfarm.sandbox.contract import MEBIBYTE, WORKSPACE, Limits, Sandbox

_SECRET = "secret of the host"  # noqa: S105 -- a marker, no password
_READ_ONLY = "/opt/conformance"


async def files_go_in_and_out_unchanged(material: ConformanceMaterial) -> None:
    """Files of nothing, of all bytes and of many megabytes; missing folders are made, modes are kept."""
    contents = {"empty": b"", "bytes": bytes(range(256)), "large": b"0123456789abcdef" * (2 * MEBIBYTE)}
    async with material.lease() as sandbox:
        for name, content in contents.items():
            path = WORKSPACE / "new" / "folders" / name
            await sandbox.write_file(path, content)
            demand(await sandbox.read_file(path) == content, f"the file {name} came back changed")
        await sandbox.write_file(WORKSPACE / "program", b"#!/bin/sh\necho ran\n", mode=0o755)
        await expect_output(sandbox, "./program", output="ran\n", what="a file written as a program")
        await sandbox.write_file(WORKSPACE / "private", b"", mode=0o600)
        await expect_output(sandbox, "stat -c %a program private", output="755\n600\n", what="modes")
        await sandbox.write_file(WORKSPACE / "program", b"shorter")
        expect(await sandbox.read_file(WORKSPACE / "program"), b"shorter", "a file that was written over")
        await expect_output(sandbox, "ls -A", output="new\nprivate\nprogram\n", what="no temporary files are left")


async def odd_names_are_names(material: ConformanceMaterial) -> None:
    """Spaces, line breaks, dashes, patterns, other scripts and bytes that are no UTF-8."""
    names = (
        "a b",
        "line\nbreak",
        "-rf",
        "*",
        "$(id)",
        "'\"",
        "\u00fc\u4e2d",
        b"\xff\xfe".decode(errors="surrogateescape"),
    )
    async with material.lease() as sandbox:
        for name in names:
            await sandbox.write_file(WORKSPACE / name, name.encode(errors="surrogateescape"))
        for name in names:
            content = await sandbox.read_file(WORKSPACE / name)
            expect(content, name.encode(errors="surrogateescape"), f"the content of {name!r}")
        await expect_output(sandbox, "ls -A | wc -l", output=f"{len(names) + 1}\n", what="number of lines of names")


async def what_is_no_file_is_not_found(material: ConformanceMaterial) -> None:
    """Missing files, folders, pipes and dangling links are FileNotFoundError, at once."""
    async with material.lease() as sandbox:
        await run_shell(sandbox, "mkdir folder; mkfifo pipe; ln -s nowhere dangling; ln -s self self")
        for name in ("missing", "missing/deep", "folder", "pipe", "dangling", "self"):
            try:
                with anyio.fail_after(30):
                    await sandbox.read_file(WORKSPACE / name)
            except FileNotFoundError:
                continue
            message = f"reading {name} gave something"
            raise BrokenContractError(message)


async def reading_is_bounded(material: ConformanceMaterial) -> None:
    """A file of just the limit is read; one byte more is ValueError."""
    async with material.lease() as sandbox:
        await sandbox.write_file(WORKSPACE / "file", b"x" * 1000)
        demand(
            await sandbox.read_file(WORKSPACE / "file", limit_bytes=1000) == b"x" * 1000, "a file of the limit's size"
        )
        try:
            await sandbox.read_file(WORKSPACE / "file", limit_bytes=999)
        except ValueError:
            return
    message = "a file larger than the limit was read"
    raise BrokenContractError(message)


async def what_cannot_be_written_is_an_error(material: ConformanceMaterial) -> None:
    """A read-only place, a folder's own path and a full disk are OSError, and leave what was there."""
    source = material.make_folder({"file": "before"})
    folder = Folder(source=str(source), target=_READ_ONLY)
    async with material.lease(folder, limits=Limits(disk_bytes=4 * MEBIBYTE)) as sandbox:
        await run_shell(sandbox, "mkdir -p folder; echo before > file")
        await _cannot_write(sandbox, f"{_READ_ONLY}/file", b"after")
        await _cannot_write(sandbox, "/usr/new", b"after")
        await _cannot_write(sandbox, str(WORKSPACE / "folder"), b"after")
        await _cannot_write(sandbox, str(WORKSPACE / "file"), b"x" * (8 * MEBIBYTE))
        expect(await sandbox.read_file(WORKSPACE / "file"), b"before\n", "a file whose replacement had no room")
        await sandbox.write_file(WORKSPACE / "file", b"after")
        await expect_output(sandbox, "ls -A", output="file\nfolder\n", what="nothing is left of failed writes")
    expect((source / "file").read_text(), "before", "the host's file")


async def writing_is_atomic(material: ConformanceMaterial) -> None:
    """Who reads while a file is written over sees the old content or the new, never a part."""
    watch = "while [ ! -e stop ]; do cat file | tr -d '\\n' | fold -w1 | sort -u | wc -l; wc -c < file; done | sort -u"
    size = 200_000
    async with material.lease() as sandbox:
        await sandbox.write_file(WORKSPACE / "file", b"a" * size)

        async def rewrite() -> None:
            for letter in b"bcdefg":
                await sandbox.write_file(WORKSPACE / "file", bytes([letter]) * size)
                await anyio.sleep(0.05)  # else a fast sandbox is done before the reader has begun
            await sandbox.write_file(WORKSPACE / "stop", b"")

        async with anyio.create_task_group() as group:
            group.start_soon(rewrite)
            result = await run_shell(sandbox, watch)
        expect(result.stdout.decode().split(), ["1", str(size)], "letters and sizes seen")


async def links_lead_nowhere_outside(material: ConformanceMaterial) -> None:
    """A link is followed inside the box: it can neither read nor write the host's files."""
    secret = material.make_folder({"secret": _SECRET})
    program = (
        'ln -s "$1/secret" absolute; ln -s "/proc/self/root$1/secret" root; ln -s "/proc/1/root$1/secret" first; '
        'ln -s "../../../../../../..$1/secret" relative; ln -s "$1" folder; ln -s /etc/shadow shadow'
    )
    async with material.lease() as sandbox:
        await run_shell(sandbox, program, str(secret))
        for name in ("absolute", "root", "first", "relative", "folder/secret", "shadow"):
            try:
                content = await sandbox.read_file(WORKSPACE / name)
            except FileNotFoundError:
                continue
            demand(_SECRET.encode() not in content and name != "shadow", f"the link {name} leads out of the box")
        for name in ("absolute", "folder/new", "folder/secret"):
            try:
                await sandbox.write_file(WORKSPACE / name, b"taken over")
            except OSError:
                continue
        names = sorted(path.name for path in secret.iterdir())
        expect((names, (secret / "secret").read_text()), (["secret"], _SECRET), "the host's folder")


async def a_lease_keeps_its_files(material: ConformanceMaterial) -> None:
    """The workspace, /tmp and /dev/shm last from command to command; the next lease begins afresh."""
    program = "echo 1 >> kept; echo 2 >> /tmp/kept; echo 3 >> /dev/shm/kept; cat kept /tmp/kept /dev/shm/kept"
    async with material.lease() as sandbox:
        await expect_output(sandbox, program, output="1\n2\n3\n", what="first command")
        await expect_output(sandbox, program, output="1\n1\n2\n2\n3\n3\n", what="second command")
        expect(await sandbox.read_file(TEMPORARY / "kept"), b"2\n2\n", "a file of /tmp, read from outside")
    async with material.lease() as sandbox:
        await expect_output(sandbox, program, output="1\n2\n3\n", what="first command of the next lease")


async def a_left_lease_is_lost(material: ConformanceMaterial) -> None:
    """Outside its block a sandbox raises SandboxLostError."""
    async with material.lease() as sandbox:
        await sandbox.write_file(WORKSPACE / "file", b"")
    calls = (
        lambda: run_shell(sandbox, "true"),
        lambda: sandbox.read_file(WORKSPACE / "file"),
        lambda: sandbox.write_file(WORKSPACE / "file", b""),
    )
    for call in calls:
        try:
            await call()
        except SandboxLostError:
            continue
        message = "a sandbox can be used after its lease"
        raise BrokenContractError(message)


async def _cannot_write(sandbox: Sandbox, path: str, content: bytes) -> None:
    try:
        await sandbox.write_file(WORKSPACE / path, content)
    except OSError:
        return
    message = f"{path} could be written"
    raise BrokenContractError(message)


FILE_CHECKS: tuple[Check, ...] = (
    files_go_in_and_out_unchanged,
    odd_names_are_names,
    what_is_no_file_is_not_found,
    reading_is_bounded,
    what_cannot_be_written_is_an_error,
    writing_is_atomic,
    links_lead_nowhere_outside,
    a_lease_keeps_its_files,
    a_left_lease_is_lost,
)
