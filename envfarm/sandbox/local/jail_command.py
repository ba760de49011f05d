"""The bubblewrap command line of a jail. PURE: what of the host exists is told by the caller.

Covered: processes, users and mounts are the jail's own; host name, IPC and, unless it is asked for, network are those
that its holder has made (see `holder`); no capability; an ordinary identity; a root that is read-only but for the
lease's own tmpfs; of /etc only what programs need to start; no variable of the driver's. The agent inside cannot be
traced, read or killed by the commands that it runs, though they have its identity.

Not covered: the kernel is the host's and no system call is filtered; with Network.PUBLIC the host's own network is
shared, its loopback included; /usr and the interpreter are the host's, readable; commands that run at the same time see
each other's processes.
"""

from dataclasses import dataclass

from envfarm.records.image import Folder, FolderAccess
from envfarm.sandbox.box_variables import PROXY_FOLDER
from envfarm.sandbox.contract import WORKSPACE, LeaseRequest, Network

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
    """

    bubblewrap: str
    agent: str
    system: tuple[tuple[str, str], ...]
    etc: str
    etc_with_network: str
    links: tuple[tuple[str, str], ...]
    network: tuple[tuple[str, str], ...]
    agent_words: tuple[str, ...] = (AGENT,)


@dataclass(frozen=True, kw_only=True)
class BoxPaths:
    """Where a holder keeps what a lease writes, in the holder's own mount namespace."""

    box: str
    copies: tuple[str, ...]
    """Sources of copy-on-write folders; number n lies at ``BOX/mergedN``."""
    proxy: str | None = None
    """Folder with the socket of an allowlist's proxy, where there is one."""

    def of(self, folder: Folder) -> str:
        """Return what is to be mounted for a folder of the request."""
        if folder.access == FolderAccess.COPY_ON_WRITE:
            return f"{self.box}/merged{self.copies.index(folder.source)}"
        return folder.source


def jail_arguments(facts: HostFacts, request: LeaseRequest, paths: BoxPaths) -> tuple[str, ...]:
    """Return the command line of a lease's jail."""
    words = [facts.bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-cgroup-try", "--disable-userns"]
    words += ["--uid", IDENTITY, "--gid", IDENTITY, "--die-with-parent", "--new-session"]
    words += ["--cap-drop", "ALL", "--clearenv"]
    for target, link in facts.links:
        words += ["--symlink", target, link]
    shown = [*facts.system, (facts.etc, "/etc")]
    if request.network is Network.PUBLIC:
        shown = [*facts.system, (facts.etc_with_network, "/etc"), *facts.network]
    for source, target in shown:
        words += ["--ro-bind", source, target]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--bind", f"{paths.box}/tmp", "/tmp", "--bind", f"{paths.box}/shm", "/dev/shm"]  # noqa: S108 -- inside
    words += ["--bind", f"{paths.box}/home", "/home/user"]
    folders = request.image.folders + request.folders
    if not any(folder.target == str(WORKSPACE) for folder in folders):
        words += ["--bind", f"{paths.box}/empty", str(WORKSPACE)]
    for folder in sorted(folders, key=lambda item: item.target.count("/")):
        option = "--ro-bind" if folder.access == FolderAccess.READ_ONLY else "--bind"
        words += [option, paths.of(folder), folder.target]
    words += ["--ro-bind", facts.agent, AGENT]
    if paths.proxy is not None:
        words += ["--ro-bind", paths.proxy, PROXY_FOLDER]
    words += ["--remount-ro", "/"]
    return (*words, "--as-pid-1", "--", *facts.agent_words, "--stdio")
