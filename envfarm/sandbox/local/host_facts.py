"""Finds what the jail needs of this machine: bubblewrap, and the parts of the system that a command may see."""

import shutil
from pathlib import Path

from envfarm.errors import MissingToolError
from envfarm.sandbox.local.jail_command import IDENTITY, HostFacts

_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_SYSTEM_FILES = (
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
    """Return what the jail shows of this machine; the files that it makes up are written to `folder`.

    Raises:
        MissingToolError: bubblewrap is not installed.
    """
    made_up = {
        "passwd": f"root:x:0:0:root:/:/bin/sh\nuser:x:{IDENTITY}:{IDENTITY}:user:/home/user:/bin/sh\n",
        "group": f"root:x:0:\nuser:x:{IDENTITY}:\n",
        "hosts": "127.0.0.1 localhost envfarm\n::1 localhost\n",
    }
    system: list[tuple[str, str]] = []
    links: list[tuple[str, str]] = []
    for name in _SYSTEM_FOLDERS:
        path = Path(name)
        if path.is_symlink():
            links.append((str(path.readlink()), name))
        elif path.is_dir():
            system.append((name, name))
    system += [(str(Path(name).resolve()), name) for name in _SYSTEM_FILES if Path(name).exists()]
    for name, text in made_up.items():
        (folder / name).write_text(text)
        system.append((str(folder / name), f"/etc/{name}"))
    network = tuple((str(Path(name).resolve()), name) for name in _NETWORK_FILES if Path(name).exists())
    return HostFacts(bubblewrap=find_bubblewrap(), system=tuple(system), links=tuple(links), network=network)
