"""Files in and out; who looks at a path sees the old content or the new, never a part."""

import contextlib
import errno
import hashlib
import os
import stat

import wire
from place import Place
from system import Acting

UPLOADS_MOST, GET_MOST, LIST_MOST, DEPTH_MOST = 64, 2 << 20, 1 << 20, 512
FILE, FOLDER, LINK, OTHER = 1, 2, 3, 4


def identity_of(request):
    """Return whom a request acts as."""
    return (request.number(wire.UID), request.number(wire.GID)) if wire.UID in request else None


class Upload:
    """A file that comes in parts."""

    def __init__(self, request):
        """Open its temporary file."""
        self.identity = identity_of(request)
        self.size = request.number(wire.SIZE)
        self.offset, self.committed = 0, False
        self.is_unhashed, self.hash = bool(request.number(wire.UNHASHED)), hashlib.sha256()
        self.place = Place(request)
        with Acting(self.identity):
            self.place.make_parents()
            self.place.open_file()

    def is_right(self, digest):
        """Say whether all came, and is what was announced; with an unhashed upload, any digest gives it up."""
        return self.offset == self.size and digest == (b"" if self.is_unhashed else self.hash.digest())

    def drop(self):
        """Remove what came."""
        with contextlib.suppress(OSError), Acting(self.identity):
            self.place.drop()


def open_regular(path):
    """Open a regular file, without waiting for pipes or devices."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        return fd, found
    os.close(fd)
    raise OSError(errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.ENOENT, "no regular file")


def read_part(fd, size, offset):
    """Return up to `size` bytes, fewer at the end of the file only."""
    parts = []
    while size > 0:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


def kind_of(mode):
    """Return what a mode says a path is."""
    return FILE if stat.S_ISREG(mode) else FOLDER if stat.S_ISDIR(mode) else LINK if stat.S_ISLNK(mode) else OTHER


def describe(name, path, found):
    """Return an entry."""
    fields = [(wire.PATH, name), (wire.FILE_KIND, kind_of(found.st_mode)), (wire.MODE, found.st_mode & 0o7777)]
    fields += [(wire.SIZE, found.st_size), (wire.MTIME_NS, found.st_mtime_ns & ((1 << 64) - 1))]
    fields += [(wire.OWNER_UID, found.st_uid), (wire.OWNER_GID, found.st_gid)]
    fields += [(wire.INODE, found.st_ino), (wire.DEVICE, found.st_dev)]
    if stat.S_ISLNK(found.st_mode):
        with contextlib.suppress(OSError):
            fields.append((wire.TARGET, os.readlink(path)))
    return wire.join_fields(fields)


def remove_at(folder, name, recursive, depth):
    """Let nothing be at the name; links are removed, never followed."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        os.rmdir(name, dir_fd=folder)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not recursive:
            raise
    if depth >= DEPTH_MOST:
        raise OSError(errno.ELOOP, "too deep")
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        for inner in os.listdir(fd):
            remove_at(fd, inner, True, depth + 1)
    finally:
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=folder)


class Files:
    """Performs requests about files."""

    def __init__(self):
        """Begin without uploads."""
        self.uploads = {}  # in the order of their opening

    def perform(self, to, request, bulk):
        """Perform one request; what the kernel refuses is answered with its number."""
        act = {
            wire.PUT: self.put,
            wire.UPLOAD: self.open_upload,
            wire.DATA: self.take_data,
            wire.COMMIT: self.commit,
            wire.GET: self.get,
            wire.FETCH: self.fetch,
            wire.LIST: self.list_folder,
            wire.STAT: self.look,
            wire.REMOVE: self.remove,
        }[to.kind]
        try:
            act(to, request, bulk)
        except OSError as error:
            to.error(error.errno or errno.EIO)

    def put(self, to, request, bulk):
        """Place small files, folders and links."""
        entries, left = [], len(bulk)
        for value in request.each(wire.ENTRY):
            entry = wire.judge(wire.ENTRY_KIND, value)
            kind, size = entry.number(wire.FILE_KIND), entry.number(wire.SIZE)
            left -= size
            wrong = (kind == LINK) != (wire.TARGET in entry) or (kind != FILE and size > 0) or left < 0
            if not FILE <= kind <= LINK or wrong:
                raise wire.MalformedError
            entries.append(entry)
        if left or hashlib.sha256(bulk).digest() != request.get(wire.DIGEST):
            to.plain(wire.BAD_DIGEST, "what came is not what was announced")
            return
        at = done = 0
        try:
            with Acting(identity_of(request)):
                for entry in entries:
                    size = entry.number(wire.SIZE)
                    self.put_entry(entry, bulk[at : at + size])
                    at, done = at + size, done + 1
        except OSError as error:
            to.reply(wire.SYSTEM, [(wire.OFFSET, done), (wire.ERRNO, error.errno or errno.EIO)])
            return
        to.reply(wire.OK, [(wire.OFFSET, done)])

    def put_entry(self, entry, content):
        """Place one."""
        place = Place(entry)
        place.make_parents()
        if entry.number(wire.FILE_KIND) == FOLDER:
            place.make_folder()
        elif entry.number(wire.FILE_KIND) == LINK:
            place.make_link(entry.get(wire.TARGET))
        else:
            place.open_file()
            try:
                place.write(content, 0)
                place.commit_file()
            finally:
                place.drop()

    def open_upload(self, to, request, _):
        """Open an upload, or find it."""
        name = request.get(wire.F_UPLOAD)
        if name not in self.uploads:
            if len(self.uploads) >= UPLOADS_MOST:
                done = next((other for other, upload in self.uploads.items() if upload.committed), None)
                if done is None:
                    to.plain(wire.NO_ROOM, "too many uploads")
                    return
                del self.uploads[done]
            self.uploads[name] = Upload(request)
        upload = self.uploads[name]
        if (upload.place.path, upload.size) != (request.get(wire.PATH), request.number(wire.SIZE)):
            to.plain(wire.CONFLICT, "this upload has another path or size")
            return
        to.reply(wire.OK, [(wire.OFFSET, upload.offset)])

    def take_data(self, to, request, bulk):
        """Take a part of an upload."""
        name, offset = request.get(wire.F_UPLOAD), request.number(wire.OFFSET)
        upload = self.uploads.get(name)
        if upload is None:
            to.plain(wire.NO_SUCH_UPLOAD, "there is no such upload")
            return
        if offset > upload.offset or offset + len(bulk) > upload.size:
            to.plain(wire.CONFLICT, "content is missing before this offset, or more than its size")
            return
        more = bulk[upload.offset - offset :]
        if more and not upload.committed:
            try:
                upload.place.write(more, upload.offset)
            except OSError:
                self.uploads.pop(name).drop()
                raise
            if not upload.is_unhashed:
                upload.hash.update(more)
            upload.offset += len(more)
        to.reply(wire.OK, [(wire.OFFSET, upload.offset)])

    def commit(self, to, request, _):
        """Let an upload be what is at its path."""
        name = request.get(wire.F_UPLOAD)
        upload = self.uploads.get(name)
        if upload is None:
            to.plain(wire.NO_SUCH_UPLOAD, "there is no such upload")
            return
        if not upload.committed:
            if not upload.is_right(request.get(wire.DIGEST)):
                self.uploads.pop(name).drop()
                to.plain(wire.BAD_DIGEST, "what came is not what was announced")
                return
            try:
                with Acting(upload.identity):
                    upload.place.commit_file()
            except OSError:
                self.uploads.pop(name).drop()
                raise
            upload.committed = True
        to.reply(wire.OK, [(wire.OFFSET, upload.offset)])

    def get(self, to, request, _):
        """Read a part of a file."""
        with Acting(identity_of(request)):
            fd, found = open_regular(request.get(wire.PATH))
        try:
            offset, size = request.number(wire.OFFSET), min(request.number(wire.LENGTH), GET_MOST)
            if found.st_size > 0 or offset > 0:  # files of /proc have content and no size
                size = max(min(size, found.st_size - offset), 0)
            content = read_part(fd, size, offset)
        finally:
            os.close(fd)
        fields = [(wire.SIZE, found.st_size), (wire.MODE, found.st_mode & 0o7777)]
        fields += [(wire.MTIME_NS, found.st_mtime_ns & ((1 << 64) - 1)), (wire.INODE, found.st_ino)]
        fields.append((wire.DEVICE, found.st_dev))
        if not request.number(wire.UNHASHED):
            fields.append((wire.DIGEST, hashlib.sha256(content).digest()))
        to.reply(wire.OK, fields, content)

    def fetch(self, to, request, _):
        """Read many small files."""
        most, fields, contents, size = min(request.number(wire.LENGTH), GET_MOST), [], [], 0
        with Acting(identity_of(request)):
            for path in request.each(wire.PATH):
                if len(fields) * 64 >= GET_MOST // 2:
                    break
                try:
                    fd, found = open_regular(path)
                except OSError as error:
                    fields.append((wire.ENTRY, wire.join_fields([(wire.ERRNO, error.errno or errno.EIO)])))
                    continue
                try:
                    fits = size + found.st_size <= most
                    content = read_part(fd, found.st_size, 0) if fits else b""
                finally:
                    os.close(fd)
                contents.append(content)
                size += len(content)
                told = [(wire.SIZE, len(content) if fits else found.st_size), (wire.MODE, found.st_mode & 0o7777)]
                fields.append((wire.ENTRY, wire.join_fields([*told, (wire.F_END, int(fits))])))
        bulk = b"".join(contents)
        to.reply(wire.OK, [*fields, (wire.DIGEST, hashlib.sha256(bulk).digest())], bulk)

    def list_folder(self, to, request, _):
        """List names; the cursor is how many went before, in the order of names."""
        fields, size, at = [], 0, request.number(wire.CURSOR)
        path = request.get(wire.PATH)
        with Acting(identity_of(request)):
            names = sorted(os.listdir(path))
            for name in names[at:]:
                inner = path + b"/" + name
                at += 1
                with contextlib.suppress(OSError):  # else it went meanwhile
                    fields.append((wire.ENTRY, describe(name, inner, os.lstat(inner))))
                    size += len(fields[-1][1])
                if size >= LIST_MOST:
                    break
        to.reply(wire.OK, fields + ([(wire.CURSOR, at)] if at < len(names) else []))

    def look(self, to, request, _):
        """Tell what a path is."""
        path = request.get(wire.PATH)
        with Acting(identity_of(request)):
            found = os.stat(path) if request.number(wire.FOLLOW) else os.lstat(path)
            entry = describe(path, path, found)
        to.reply(wire.OK, [(wire.ENTRY, entry)])

    def remove(self, to, request, _):
        """Let nothing be at a path."""
        with Acting(identity_of(request)):
            remove_at(None, request.get(wire.PATH), bool(request.number(wire.RECURSIVE)), 0)
        to.reply(wire.OK, [])

    def end(self):
        """Remove what is not committed."""
        for upload in self.uploads.values():
            upload.drop()
        self.uploads = {}
