"""Who may speak: the one claim of an agent, and the keys and counters of each connection."""

import hmac

import wire

LONGEST_LEASE_MS = 30 * 24 * 3600 * 1000


class Claim:
    """The claim of an agent; made once."""

    def __init__(self):
        """Begin without one."""
        self.made = False
        self.name = self.key = b""
        self.lease_ms = self.deadline_ms = 0

    def renew(self, now_ms):
        """Let the lease begin again."""
        self.deadline_ms = now_ms + self.lease_ms


class Session:
    """One connection; untrusted until it bound the agent or proved that it has the key."""

    def __init__(self, claim, nonce):
        """Take the agent's claim and this connection's nonce."""
        self.claim = claim
        self.nonce = nonce
        self.trusted = False
        self.key_in = self.key_out = b""
        self.counter_in = self.counter_out = 0

    def judge(self, frame, now_ms):
        """Return (whether it joins, status); a status that is not OK closes the connection."""
        if not self.trusted:
            if frame.kind not in (wire.BIND, wire.RESUME):
                return False, wire.NOT_BOUND
            try:
                return True, self._join(frame, now_ms)
            except wire.MalformedError:
                return True, wire.MALFORMED
        if not self._is_tagged(frame, self.key_in):
            return False, wire.BAD_TAG
        if frame.counter != self.counter_in:
            return False, wire.BAD_COUNTER
        self.counter_in += 1
        self.claim.renew(now_ms)
        return False, wire.OK

    def _is_tagged(self, frame, key):
        return bool(frame.flags & wire.TAGGED) and hmac.compare_digest(wire.sign(key, frame.covered), frame.tag)

    def _read_joining(self, frame):
        pairs = [(tag, value) for tag, value in wire.split_fields(frame.fields) if tag < wire.MAY_BE_IGNORED]
        values = dict(pairs)
        wanted = {wire.CLAIM, wire.NONCE, wire.LEASE_MS} | ({wire.KEY} if frame.kind == wire.BIND else set())
        if len(pairs) != len(values) or set(values) != wanted or frame.bulk:
            raise wire.MalformedError
        sizes = 1 <= len(values[wire.CLAIM]) <= 128 and len(values[wire.NONCE]) == 16
        if not sizes or len(values.get(wire.KEY, bytes(32))) != 32 or len(values[wire.LEASE_MS]) != 8:
            raise wire.MalformedError
        lease_ms = wire.NUMBER.unpack(values[wire.LEASE_MS])[0]
        if not 1 <= lease_ms <= LONGEST_LEASE_MS or (frame.kind == wire.BIND) == bool(frame.flags & wire.TAGGED):
            raise wire.MalformedError
        return values, lease_ms

    def _join(self, frame, now_ms):
        claim = self.claim
        values, lease_ms = self._read_joining(frame)
        binds = frame.kind == wire.BIND
        if frame.counter != 0:
            return wire.BAD_COUNTER
        if not binds and not claim.made:
            return wire.NOT_BOUND
        if claim.made and claim.name != values[wire.CLAIM]:
            return wire.HELD
        if binds and claim.made and not hmac.compare_digest(claim.key, values[wire.KEY]):
            return wire.HELD
        if not claim.made:
            claim.made, claim.name, claim.key = True, values[wire.CLAIM], values[wire.KEY]
        base = wire.sign(claim.key, b"envfarm agent 1" + self.nonce + values[wire.NONCE] + claim.name)
        key_in = wire.sign(base, b"to agent")
        if not binds and not self._is_tagged(frame, key_in):
            return wire.BAD_TAG
        self.key_in, self.key_out = key_in, wire.sign(base, b"from agent")
        self.trusted = True
        self.counter_in = 0 if binds else 1
        claim.lease_ms = lease_ms
        claim.renew(now_ms)
        return wire.OK

    def seal(self, kind, request, status, fields, bulk=b""):
        """Return a frame that goes out: tagged and counted where the connection is trusted."""
        if not self.trusted:
            return wire.make_frame(kind, request, status, fields, bulk)
        self.counter_out += 1
        return wire.make_frame(kind, request, status, fields, bulk, self.key_out, self.counter_out - 1)
