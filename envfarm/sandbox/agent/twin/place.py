"""A path, and how a file, a folder or a link comes to be there."""

import contextlib
import errno
import os
import stat

import wire


class Place:
    """A path, and the temporary file that becomes what is there."""

    def __init__(self, request):
        """Take path, mode and owner."""
        self.path = request.get(wire.PATH)
        self.folder = self.path[: self.path.rindex(b"/")]
        self.mode = request.number(wire.MODE, 0o644)
        self.has_owner = wire.OWNER_UID in request or wire.OWNER_GID in request
        self.owner = (request.number(wire.OWNER_UID, -1), request.number(wire.OWNER_GID, -1))
        self.fd = self.temporary = None

    def make_parents(self):
        """Make missing folders."""
        if self.folder and not os.path.exists(self.folder):
            parts = self.folder.split(b"/")
            for count in range(2, len(parts) + 1):
                folder = b"/".join(parts[:count])
                try:
                    os.mkdir(folder, 0o755)
                except OSError as error:
                    if error.errno != errno.EEXIST and not os.path.exists(folder):
                        raise

    def name_temporary(self):
        """Choose a name beside the path."""
        return self.folder + b"/.envfarm-" + os.urandom(8).hex().encode()

    def open_file(self):
        """Open the temporary file."""
        name = self.name_temporary()
        self.fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self.temporary = name

    def write(self, data, offset):
        """Write all of the data."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self.fd, view, offset)
            if count == 0:
                raise OSError(errno.ENOSPC, "nothing was written")
            view, offset = view[count:], offset + count

    def commit_file(self):
        """Let the temporary file be what is at the path."""
        try:
            if self.has_owner:  # first: a change of owner takes away set-user-id bits
                os.fchown(self.fd, *self.owner)
            os.fchmod(self.fd, self.mode)
            os.rename(self.temporary, self.path)
            self.temporary = None
        finally:
            self.drop()

    def drop(self):
        """Remove the temporary file."""
        if self.fd is not None:
            os.close(self.fd)
        if self.temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary)
        self.fd = self.temporary = None

    def make_folder(self):
        """Make a folder, or take the one that is there."""
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(self.path).st_mode):
                raise OSError(errno.ENOTDIR, "no folder") from None
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if self.has_owner:
                os.fchown(fd, *self.owner)
            os.fchmod(fd, self.mode)
        finally:
            os.close(fd)

    def make_link(self, target):
        """Make a symbolic link."""
        name = self.name_temporary()
        os.symlink(target, name)
        self.temporary = name
        try:
            if self.has_owner:
                os.chown(name, *self.owner, follow_symlinks=False)
            os.rename(name, self.path)
            self.temporary = None
        finally:
            self.drop()
