"""The bubblewrap command line of a jail. PURE: what of the host exists is told by the caller.

Covered: processes, users and mounts are the jail's own; host name, IPC and, unless it is asked for, network are those
that its holder has made (see `holder`); no capability; an ordinary identity; a root that is read-only but for the
lease's own tmpfs; of /etc only what programs need to start; no variable of the driver's. The agent inside cannot be
traced, read or killed by the commands that it runs, though they have its identity.

Not covered: the kernel is the host's and no system call is filtered; with Network.PUBLIC the host's own network is
shared, its loopback included; /usr and the interpreter are the host's, readable; commands that run at the same time see
each other's processes.
"""

from envfarm.records.image import FolderAccess
from envfarm.sandbox.contract import WORKSPACE
from envfarm.sandbox.local.box_plan import BaseWish, copies_of
from envfarm.sandbox.local.host_facts import AGENT, IDENTITY, HostFacts


def jail_arguments(facts: HostFacts, wish: BaseWish, box: str) -> tuple[str, ...]:
    """Return the command line of a jail: what it is from its beginning.

    Args:
        facts: What it shows of this machine.
        wish: What it is made from.
        box: Where its holder keeps what the lease writes, in the holder's own mount namespace.
    """
    words = [facts.bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-cgroup-try", "--disable-userns"]
    words += ["--uid", IDENTITY, "--gid", IDENTITY, "--die-with-parent", "--new-session"]
    words += ["--cap-drop", "ALL", "--clearenv", "--bind", f"{box}/root", "/"]
    for target, link in facts.links:
        words += ["--symlink", target, link]
    shown = [*facts.system, (facts.etc, "/etc")]
    if wish.networked:
        shown = [*facts.system, (facts.etc_with_network, "/etc"), *facts.network]
    for source, target in shown:
        words += ["--ro-bind", source, target]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--bind", f"{box}/tmp", "/tmp", "--bind", f"{box}/shm", "/dev/shm"]  # noqa: S108 -- inside
    words += ["--bind", f"{box}/home", "/home/user"]
    copies = copies_of(wish.folders)
    for folder in wish.folders:
        is_copied = folder.access == FolderAccess.COPY_ON_WRITE
        source = f"{box}/merged{copies.index(folder.source)}" if is_copied else folder.source
        words += ["--ro-bind" if folder.access == FolderAccess.READ_ONLY else "--bind", source, folder.target]
    if not facts.shows_later and not any(folder.target == str(WORKSPACE) for folder in wish.folders):
        words += ["--bind", f"{box}/empty", str(WORKSPACE)]
    words += ["--ro-bind", facts.agent, AGENT, "--remount-ro", "/"]
    return (*words, "--as-pid-1", "--", *facts.agent_words, "--stdio")
