"""Checks of `conformance`: what a sandbox can reach, and what it cannot."""

import sys

import anyio

from envfarm.errors import SandboxStartError
from envfarm.records.image import Folder, FolderAccess
from envfarm.sandbox.conformance_material import (
    BrokenContractError,
    Check,
    ConformanceMaterial,
    demand,
    expect,
    expect_output,
    heartbeat,
    run_shell,
)
from envfarm.sandbox.contract import WORKSPACE

_TARGET = "/opt/conformance"
_REACH_OUT = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "1.1.1.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        connection = socket.socket(family)
        connection.settimeout(3)
        connection.connect((address, 53))
    except OSError as error:
        print(type(error).__name__, "timed out" in str(error))
    else:
        print("connected to", address)
"""
_LOOPBACK = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
client.sendall(b"through loopback")
print(server.accept()[0].recv(100).decode())
"""
_PRIVILEGES = "id -u | grep -qv '^0$' && grep -c -E '^Cap(Prm|Eff|Bnd|Amb):\\s0+$' /proc/self/status"


async def there_is_no_network_but_loopback(material: ConformanceMaterial) -> None:
    """Without the network nothing outside can be reached, at once and not by a timeout; loopback works."""
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, 'exec python3 -c "$1"', _REACH_OUT)
        expect(result.stdout.decode(), "OSError False\n" * 3, "connections to the outside")
        await expect_output(sandbox, 'exec python3 -c "$1"', _LOOPBACK, output="through loopback\n", what="loopback")
        interfaces = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"
        await expect_output(sandbox, interfaces, output="lo\n", what="network interfaces")


async def commands_have_no_privileges(material: ConformanceMaterial) -> None:
    """Commands run as an ordinary user without capabilities, and cannot gain any."""
    async with material.lease() as sandbox:
        await expect_output(sandbox, _PRIVILEGES, output="4\n", what="empty sets of capabilities")
        result = await run_shell(sandbox, "mount -t tmpfs none /tmp || unshare -Ur true || chroot / true")
        demand(result.exit_code != 0, "a command could mount, make a user namespace, or change its root")


async def the_system_is_read_only(material: ConformanceMaterial) -> None:
    """Nothing outside the workspace, home, /tmp and /dev/shm can be written, also with a change of modes."""
    program = 'for f in / /usr /etc /bin /opt /usr/bin; do touch "$f/x" 2>/dev/null && echo "$f"; done; chmod 777 /usr'
    async with material.lease() as sandbox:
        result = await run_shell(sandbox, program)
        expect(result.stdout, b"", "folders that could be written")
        demand(result.exit_code != 0, "the mode of /usr could be changed")


async def read_only_folders_stay_as_they_are(material: ConformanceMaterial) -> None:
    """A read-only folder can be read and run from, and not be changed."""
    source = material.make_folder({"file": "before"})
    program = f"cd {_TARGET} && cat file; echo x > file; rm file; touch new; chmod 0 file; mv file moved; mkdir d; ls"
    async with material.lease(Folder(source=str(source), target=_TARGET)) as sandbox:
        result = await run_shell(sandbox, program)
        expect(result.stdout, b"beforefile\n", "what the sandbox sees")
    expect(sorted(path.name for path in source.iterdir()), ["file"], "files of the host's folder")
    expect((source / "file").read_text(), "before", "content of the host's file")


async def one_file_can_be_shown(material: ConformanceMaterial) -> None:
    """A folder of a request may be a single file."""
    source = material.make_folder({"file": "content", "other": ""})
    async with material.lease(Folder(source=str(source / "file"), target=f"{_TARGET}/named")) as sandbox:
        program = f"cat {_TARGET}/named; ls {_TARGET}"
        await expect_output(sandbox, program, output="contentnamed\n", what="the file and its folder")


async def copy_on_write_never_reaches_the_host(material: ConformanceMaterial) -> None:
    """A copy-on-write folder can be changed in every way, and the host's folder does not change."""
    source = material.make_folder({"changed": "before", "removed": "before", "moved": "before", "kept": "before"})
    (source / "folder").mkdir()
    (source / "folder" / "file").write_text("before")
    (source / "link").symlink_to("kept")
    folder = Folder(source=str(source), target=str(WORKSPACE), access=FolderAccess.COPY_ON_WRITE)
    program = (
        "echo after > changed; rm removed; mv moved elsewhere; rm -r folder; mkdir folder; echo new > folder/new; "
        "chmod 700 kept; ln -sfn changed link; ls -A . folder; cat changed kept"
    )
    seen = ".:\nchanged\nelsewhere\nfolder\nkept\nlink\n\nfolder:\nnew\nafter\nbefore"
    before = _listing(material, source.name)
    async with material.lease(folder) as sandbox, material.lease(folder) as other:
        await expect_output(sandbox, program, output=seen, what="the changed workspace")
        await expect_output(other, "cat removed changed folder/file", output="before" * 3, what="another lease of it")
    expect(_listing(material, source.name), before, "the host's folder")


async def read_write_reaches_the_host(material: ConformanceMaterial) -> None:
    """Only a folder that is asked for so can be changed by a sandbox."""
    source = material.make_folder({})
    source.chmod(0o777)
    folder = Folder(source=str(source), target=_TARGET, access=FolderAccess.READ_WRITE)
    async with material.lease(folder) as sandbox:
        await expect_output(sandbox, f"echo made > {_TARGET}/file", output="", what="writing")
    expect((source / "file").read_text(), "made\n", "the host's file")


async def the_host_is_not_seen(material: ConformanceMaterial) -> None:
    """Of the host's files only those of the request and a system to run programs are seen; no process of it is."""
    secret = material.make_folder({"secret": ""})
    program = 'for f in "$@"; do test -e "$f" && echo "$f"; done; true'
    mark = f"mark-of-the-host-{secret.name}"
    async with (
        await anyio.open_process([sys.executable, "-c", "input()", mark]) as process,
        material.lease() as sandbox,
    ):
        await expect_output(sandbox, program, str(secret), str(secret / "secret"), output="", what="places of the host")
        look = 'cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -c "^mark-of-the-[h]ost"; true'
        await expect_output(sandbox, look, output="0\n", what="processes of the host")
        process.kill()


async def a_command_cannot_end_its_box(material: ConformanceMaterial) -> None:
    """Whatever a command signals, the next one runs: processes outside its own tree are not for it to end."""
    program = (
        "for name in TERM INT HUP QUIT USR1 STOP KILL; do kill -$name 1; kill -$name -1; done 2>/dev/null; sleep 0.2"
    )
    async with material.lease() as sandbox:
        await run_shell(sandbox, f"({program}) & sleep 1")
        await run_shell(sandbox, program)
        await expect_output(sandbox, "echo alive", output="alive\n", what="the next command")


async def leases_do_not_see_each_other(material: ConformanceMaterial) -> None:
    """Two sandboxes share neither files nor processes nor loopback."""
    listen = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 45678)); print('up', flush=True); time.sleep(60)"
    )
    program = 'echo mine > /tmp/f; echo mine > /dev/shm/f; echo mine > f; echo mine > ~/f; exec python3 -c "$1"'
    look = (
        "ls -A . /tmp /dev/shm ~ | grep -c f$; grep -l create_serve[r] /proc/[0-9]*/cmdline 2>/dev/null; "
        "python3 -c 'import socket; print(socket.socket().connect_ex((\"127.0.0.1\", 45678)) != 0)'"
    )
    async with material.lease() as first, material.lease() as second, anyio.create_task_group() as group:
        group.start_soon(lambda: run_shell(first, program, listen))
        for _ in range(200):
            if (await run_shell(first, "test -e ~/f")).exit_code == 0:
                break
        await anyio.sleep(0.3)
        seen = await run_shell(second, look)
        group.cancel_scope.cancel()
    expect(seen.stdout.decode(), "0\nTrue\n", "what one lease sees of the other")


async def a_lease_that_cannot_be_made_is_an_error(material: ConformanceMaterial) -> None:
    """A folder that does not exist is SandboxStartError before anything runs."""
    folder = Folder(source=str(material.folder / "missing"), target=_TARGET)
    try:
        async with material.lease(folder):
            message = "a lease of a missing folder was given"
            raise BrokenContractError(message)
    except SandboxStartError:
        return


async def an_error_in_the_block_passes_as_it_is(material: ConformanceMaterial) -> None:
    """What the block raises comes out of the lease unwrapped; leaving while a command runs is prompt."""
    error = LookupError("raised in the block")
    seen: BaseException | None = None
    try:
        with anyio.fail_after(20):
            async with material.lease() as sandbox, anyio.create_task_group() as group:
                group.start_soon(lambda: run_shell(sandbox, heartbeat(WORKSPACE / "beat")))
                await anyio.sleep(0.1)
                group.cancel_scope.cancel()
            async with material.lease():
                raise error
    except LookupError as caught:
        seen = caught
    demand(seen is error, f"what came out of the block is {seen!r}")


def _listing(material: ConformanceMaterial, name: str) -> list[tuple[str, int, bytes]]:
    folder = material.folder / name
    entries = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else str(path.is_symlink()).encode()
        entries.append((str(path.relative_to(folder)), path.lstat().st_mode, content))
    return entries


WALL_CHECKS: tuple[Check, ...] = (
    there_is_no_network_but_loopback,
    commands_have_no_privileges,
    the_system_is_read_only,
    read_only_folders_stay_as_they_are,
    one_file_can_be_shown,
    copy_on_write_never_reaches_the_host,
    read_write_reaches_the_host,
    the_host_is_not_seen,
    a_command_cannot_end_its_box,
    leases_do_not_see_each_other,
    a_lease_that_cannot_be_made_is_an_error,
    an_error_in_the_block_passes_as_it_is,
)
