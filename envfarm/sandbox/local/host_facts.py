"""Finds what the jail needs of this machine: bubblewrap, and the parts of the system that a command may see."""

import shutil
from pathlib import Path

from envfarm.errors import MissingToolError
from envfarm.sandbox.agent.programs import agent_program
from envfarm.sandbox.local.jail_command import IDENTITY, HostFacts

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
    )


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
        "hosts": "127.0.0.1 localhost envfarm\n::1 localhost\n",
    }
    for name, text in made_up.items():
        (folder / name).write_text(text)
