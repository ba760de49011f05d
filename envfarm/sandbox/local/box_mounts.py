"""What a holder mounts for its box, in its own mount namespace. Standard library only, as `holder`.

Everything that the lease writes lies in one tmpfs. ``root`` in it is the root of the jail, and the tmpfs is shared with
the jail's mount namespace one way: what is mounted below ``root`` once the jail runs appears there, with the flags that
it had when it was mounted, and nothing of the jail appears here. So a jail can run before it is known what it will see.
"""

import ctypes
import os
import shutil
import struct

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 2, 4, 8, 0x20, 0x1000, 0x4000
MS_SLAVE, MS_SHARED = 1 << 19, 1 << 20
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
ATTRIBUTE_READ_ONLY, ATTRIBUTE_NOSUID, ATTRIBUTE_NODEV = 1, 2, 4
libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    """Return what a call of the C library returned; raise OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source, target, kind, flags, options):
    """Call mount(2)."""
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options) if options else None), f"mount {target}")


class BoxMounts:
    """The box's tmpfs and what is mounted from it."""

    def __init__(self, box):
        """Mount the tmpfs at a folder, still without its bounds."""
        self.box = box
        self._copies = {}
        mount("envfarm", box, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700")
        mount(None, box, None, MS_SHARED, None)
        for name, mode in (("tmp", 0o1777), ("shm", 0o1777), ("home", 0o700), ("empty", 0o755), ("root", 0o755)):
            os.mkdir(f"{box}/{name}")
            os.chmod(f"{box}/{name}", mode)

    def bound(self, disk_bytes, inodes):
        """Bound all that the box may hold."""
        mount("envfarm", self.box, "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, f"size={disk_bytes},nr_inodes={inodes}")

    def copy(self, source):
        """Return a private copy of a folder: an overlay, or where overlays are refused a real copy; one per source."""
        if source not in self._copies:
            number = len(self._copies)
            merged, upper, work = (f"{self.box}/{part}{number}" for part in ("merged", "upper", "work"))
            for folder in (merged, upper, work):
                os.mkdir(folder, 0o755)
            try:
                overlay(source, upper, work, merged)
            except OSError:
                os.rmdir(merged)
                shutil.copytree(source, merged, symlinks=True)
            self._copies[source] = merged
        return self._copies[source]

    def show(self, source, target, access):
        """Let a jail that runs see a folder or file of this machine, or of the box, at `target`."""
        place = self._make_place(target, is_folder=os.path.isdir(source))
        if access == "copy_on_write":
            source = self.copy(source)
        flags = ATTRIBUTE_NOSUID | ATTRIBUTE_NODEV | (ATTRIBUTE_READ_ONLY if access == "read_only" else 0)
        tree = check(
            libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(source), OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC),
            f"open_tree {source}",
        )
        try:
            attributes = struct.pack("4Q", flags, 0, 0, 0)
            size = ctypes.c_size_t(len(attributes))
            done = libc.syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, attributes, size)
            check(done, f"mount_setattr {source}")
            moved = libc.syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(place), MOVE_MOUNT_F_EMPTY_PATH)
            check(moved, f"move_mount {target}")
        finally:
            os.close(tree)

    def _make_place(self, target, *, is_folder):
        """Return where `target` lies here; makes it, and what it lies in. Nothing leads out of the root."""
        place = f"{self.box}/root"
        names = [word for word in target.split("/") if word]
        if not names or ".." in names:
            message = f"nothing can be shown at {target}"
            raise OSError(message)
        for name in names[:-1]:
            place = refuse_link(f"{place}/{name}", target)
            make_folder(place)
        place = refuse_link(f"{place}/{names[-1]}", target)
        if is_folder:
            make_folder(place)
        elif not os.path.lexists(place):
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        return place


def refuse_link(place, target):
    """Return a place that is no symbolic link: one would lead out of the root before anything is made or mounted."""
    if os.path.islink(place):
        message = f"nothing can be shown at {target}: a symbolic link lies on the way"
        raise OSError(message)
    return place


def overlay(lower, upper, work, merged):
    """Mount an overlay that writes to `upper`."""
    escaped = lower.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    options = f"lowerdir={escaped},upperdir={upper},workdir={work},userxattr"
    mount("overlay", merged, "overlay", MS_NOSUID | MS_NODEV, options)


def make_folder(path):
    """Make a folder that everybody may enter, where nothing is."""
    if not os.path.lexists(path):
        os.mkdir(path)
        os.chmod(path, 0o755)
