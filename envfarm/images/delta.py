"""Git's deltas: one content told as copies from another and bytes of its own. PURE.

Format: gitformat-pack(5), "Deltified representation". The choice of copies is ours and never changes by version of
anything: an image's bytes depend on it.
"""

_LONGEST_COPY = 0xFFFF
_LONGEST_INSERT = 0x7F
_SHORTEST_LINE = 8
"""Shorter lines are not looked for: a copy costs as many bytes."""


def make_delta(base: bytes, target: bytes) -> bytes:
    """Return the delta that makes `target` out of `base`."""
    head = _common_prefix(base, 0, target, 0)
    tail = _common_suffix(base, target, min(len(base), len(target)) - head)
    parts = [_varint(len(base)), _varint(len(target)), _copies(0, head)]
    parts.append(_middle(base, target[head : len(target) - tail]))
    parts.append(_copies(len(base) - tail, tail))
    return b"".join(parts)


def _middle(base: bytes, target: bytes) -> bytes:
    """Return operations for what lies between the common head and tail: lines are looked up in all of the base."""
    if len(target) < _SHORTEST_LINE:
        return _inserts(target)
    places: dict[bytes, int] = {}
    offset = 0
    for line in base.splitlines(keepends=True):
        places.setdefault(line, offset)
        offset += len(line)
    parts: list[bytes] = []
    position = pending = 0
    while position < len(target):
        end = target.find(b"\n", position) + 1 or len(target)
        place = places.get(target[position:end]) if end - position >= _SHORTEST_LINE else None
        if place is None:
            position = end
            continue
        length = _common_prefix(base, place, target, position)
        parts += [_inserts(target[pending:position]), _copies(place, length)]
        position = pending = position + length
    parts.append(_inserts(target[pending:]))
    return b"".join(parts)


def _common_prefix(one: bytes, one_start: int, other: bytes, other_start: int) -> int:
    """Return how many bytes are equal from two places on; found by halving, so that comparing is the machine's work."""
    low, high = 0, min(len(one) - one_start, len(other) - other_start)
    while low < high:
        middle = (low + high + 1) // 2
        if one[one_start + low : one_start + middle] == other[other_start + low : other_start + middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(one: bytes, other: bytes, most: int) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number >= 0x80:  # noqa: PLR2004 -- seven bits a byte
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _copies(offset: int, length: int) -> bytes:
    parts = bytearray()
    while length:
        size = min(length, _LONGEST_COPY)
        code, digits = 0x80, bytearray()
        for bit, byte in enumerate([*offset.to_bytes(4, "little"), *size.to_bytes(3, "little")]):
            if byte:
                code |= 1 << bit
                digits.append(byte)
        parts.append(code)
        parts += digits
        offset, length = offset + size, length - size
    return bytes(parts)


def _inserts(data: bytes) -> bytes:
    parts = bytearray()
    for start in range(0, len(data), _LONGEST_INSERT):
        part = data[start : start + _LONGEST_INSERT]
        parts.append(len(part))
        parts += part
    return bytes(parts)
