"""What is kept of one output stream: its first and last bytes, within a bound, and how many there were."""


class Output:
    """A stream's kept bytes; byte number p is told by its place in the stream."""

    def __init__(self, limit, keeps_tail):
        """Keep at most `limit` bytes: half of them from the end, or all from the start."""
        self.tail_limit = limit // 2 if keeps_tail else 0
        self.head_limit = limit - self.tail_limit
        self.head = bytearray()
        self.tail = bytearray()  # may be longer than its bound by a chunk or two; `tail_start` knows
        self.total = 0

    def add(self, data):
        """Take the next bytes."""
        self.total += len(data)
        room = self.head_limit - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        if data and self.tail_limit:
            self.tail += data
            if len(self.tail) > 2 * self.tail_limit + (1 << 16):
                del self.tail[: len(self.tail) - self.tail_limit]

    @property
    def tail_start(self):
        """The number of the first byte of the tail."""
        return self.total - min(self.total - len(self.head), self.tail_limit)

    @property
    def dropped(self):
        """How many bytes are missing between head and tail."""
        return self.tail_start - len(self.head)

    def read(self, offset, size):
        """Return where kept bytes from `offset` on begin, and as many as lie in one piece."""
        if offset < len(self.head):
            return offset, bytes(self.head[offset : offset + size])
        offset = max(offset, self.tail_start)
        at = len(self.tail) - (self.total - offset)
        return offset, bytes(self.tail[at : at + size]) if offset < self.total else b""

    def kept(self):
        """Return all kept bytes, joined."""
        size = self.total - self.tail_start
        return bytes(self.head) + (bytes(self.tail[len(self.tail) - size :]) if size else b"")

    def drop(self):
        """Free what is kept."""
        self.__init__(0, False)
