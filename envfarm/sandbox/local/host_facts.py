"""Finds what the jail needs of this machine: bubblewrap, and the parts of the system that a command may see."""

import ctypes
import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from envfarm.errors import MissingToolError
from envfarm.sandbox.agent.programs import agent_program
from envfarm.sandbox.box_variables import HOSTS

AGENT = "/.envfarm/agent"
"""Where the agent lies inside; it is the first process there."""
IDENTITY = "1000"
"""User and group id inside; outside they are the driver's own."""


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What the jail shows of the host.

    Attributes:
        bubblewrap: Path of the program.
        agent: Path of the agent, which lies at `AGENT` inside.
        system: (source, target) of read-only folders and files that every command sees.
        etc: A folder with what programs need of /etc.
        etc_with_network: The same, with places for `network`.
        links: (target, path) of symbolic links, such as ``usr/bin`` for ``/bin``.
        network: (source, target) that are seen with the network only.
        agent_words: What runs as the agent inside: the program's twin needs a Python before it.
        shows_later: Whether folders can be mounted in a jail that runs; false before Linux 5.12.
    """

    bubblewrap: str
    agent: str
    system: tuple[tuple[str, str], ...]
    etc: str
    etc_with_network: str
    links: tuple[tuple[str, str], ...]
    network: tuple[tuple[str, str], ...]
    shows_later: bool = True
    agent_words: tuple[str, ...] = (AGENT,)


_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_ETC = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/services",
)
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/gai.conf", "/etc/host.conf")
_MOUNT_SETATTR = 442
_MENDING = "install it, for instance with: apt-get install bubblewrap"


def find_bubblewrap() -> str:
    """Return the path of bubblewrap.

    Raises:
        MissingToolError: It is not installed.
    """
    found = shutil.which("bwrap") or shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if found is None:
        message = f"bubblewrap (bwrap) is not installed: {_MENDING}"
        raise MissingToolError(message)
    return found


def read_host_facts(folder: Path) -> HostFacts:
    """Return what the jail shows of this machine; its /etc is made in `folder`.

    It is one folder since each further mount costs a command a tenth of a millisecond.

    Raises:
        MissingToolError: bubblewrap is not installed.
    """
    bubblewrap = find_bubblewrap()
    system: list[tuple[str, str]] = []
    links: list[tuple[str, str]] = []
    for name in _SYSTEM_FOLDERS:
        path = Path(name)
        if path.is_symlink():
            links.append((str(path.readlink()), name))
        elif path.is_dir():
            system.append((name, name))
    network = tuple((Path(name).resolve(), name) for name in _NETWORK_FILES if Path(name).exists())
    etc, with_network = folder / "etc", folder / "etc-with-network"
    for made in (etc, with_network):
        _make_etc(made)
    for source, name in network:
        place = with_network / Path(name).name
        if source.is_dir():
            place.mkdir()
        else:
            place.touch()
    return HostFacts(
        bubblewrap=bubblewrap,
        agent=str(agent_program()),
        system=tuple(system),
        etc=str(etc),
        etc_with_network=str(with_network),
        links=tuple(links),
        network=tuple((str(source), name) for source, name in network),
        shows_later=_has_mount_setattr(),
    )


def _has_mount_setattr() -> bool:
    """Say whether the kernel can change the flags of mounts that are nowhere yet: it calls no attributes invalid."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(_MOUNT_SETATTR, -1, b"", 0, None, ctypes.c_size_t(0))
    return bool(result < 0 and ctypes.get_errno() == errno.EINVAL)


def _make_etc(folder: Path) -> None:
    """Fill a folder with what programs need of /etc; users and hosts are made up."""
    folder.mkdir()
    folder.chmod(0o755)
    for name in _ETC:
        source = Path(name)
        if source.is_dir():
            shutil.copytree(source, folder / source.name, symlinks=True, ignore_dangling_symlinks=True)
        elif source.is_file():
            shutil.copyfile(source, folder / source.name)
    made_up = {
        "passwd": f"root:x:0:0:root:/:/bin/sh\nuser:x:{IDENTITY}:{IDENTITY}:user:/home/user:/bin/sh\n",
        "group": f"root:x:0:\nuser:x:{IDENTITY}:\n",
        "hosts": HOSTS,
    }
    for name, text in made_up.items():
        (folder / name).write_text(text)
