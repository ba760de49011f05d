"""Sends values out of the box instead of comparing them: the expected ones are never here.

An altered test calls ``__envfarm_ask__(number, value)`` where it compared; the call returns True and tells nothing. A
value goes out as tagged lists, made with the plain types' own methods only: whatever a subclass defines is not run.

Standard library only, CPython 3.6 and newer. Everything that is needed is captured when this is imported, which is
before anything of the workspace can be.

Covered: hostile subclasses, lies about ``__class__``, cycles, deep and huge values, half characters.
Not covered: an object that is not plain data goes out as none; what it would have said is decided by another run.
"""

import sys
from json.encoder import encode_basestring_ascii

ASK_FUNCTION = "__envfarm_ask__"
TOKEN_FUNCTION = "__envfarm_token__"  # noqa: S105 -- a name, not a secret
MOST_DEPTH = 50
MOST_CHARACTERS = 1 << 20
_MOST_NAME = 200
_MOST_BITS = 33000
_CHUNK_DIGITS = 600


class NotPlainError(Exception):
    """The value is no plain data, or too much of it."""


class Token:
    """Stands in a test for an expected value: equal to nothing, and says nothing."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other):
        return False

    def __ne__(self, other):
        return True

    def __repr__(self):
        return "<expected>"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce_ex__(self, protocol):
        raise TypeError("an expected value cannot be pickled")


def _decimal(value, bits=int.bit_length, convert=int.__repr__, divide=int.__divmod__):
    """Return the digits of an exact int; Python refuses to convert long ones at once."""
    if bits(value) > _MOST_BITS:
        raise NotPlainError
    if bits(value) < _CHUNK_DIGITS:
        return convert(value)
    sign, value = ("-", -value) if value < 0 else ("", value)
    parts = []
    while value:
        value, rest = divide(value, 10**_CHUNK_DIGITS)
        parts.append(convert(rest).rjust(_CHUNK_DIGITS, "0"))
    return sign + "".join(reversed(parts)).lstrip("0")


_COMPLEX_REAL = complex.__dict__["real"].__get__
_COMPLEX_IMAGINARY = complex.__dict__["imag"].__get__
_LEAVES = {
    type(None): lambda value: ["n"],
    bool: lambda value: ["b", value is True],
    int: lambda value, exact=int.__index__: ["i", _decimal(exact(value))],
    float: lambda value, convert=float.hex: ["f", convert(value)],
    complex: lambda value, convert=float.hex: [
        "c",
        convert(_COMPLEX_REAL(value)),
        convert(_COMPLEX_IMAGINARY(value)),
    ],
    str: lambda value, exact=str.__str__: ["s", exact(value)],
    bytes: lambda value, convert=bytes.hex: ["y", convert(value)],
}
_CONTAINERS = {
    list: ("l", list.__iter__),
    tuple: ("t", tuple.__iter__),
    set: ("S", set.__iter__),
    frozenset: ("S", frozenset.__iter__),
    dict: ("d", dict.items),
}


def plain_type(value, kind=type, order=type.__dict__["__mro__"].__get__, leaves=_LEAVES, containers=_CONTAINERS):
    """Return the plain type that a value is of or inherits from; None where there is none."""
    for base in order(kind(value)):
        if base in leaves or base in containers:
            return base
    return None


def encoded_text(encoded, quote=encode_basestring_ascii, kind=type, text=str):
    """Return the JSON text of tagged lists."""
    if kind(encoded) is text:
        return quote(encoded)
    if encoded is True or encoded is False:
        return "true" if encoded else "false"
    return "[" + ",".join([encoded_text(item) for item in encoded]) + "]"


def encode(value):
    """Return a value as tagged lists; None for what is not plain data, is cyclic, too deep or too much."""
    try:
        return _encode(value, 0, [MOST_CHARACTERS])
    except (NotPlainError, RuntimeError, MemoryError, ValueError, TypeError, OverflowError):
        return None


def _encode(value, depth, room):
    base = plain_type(value)
    if base is None or depth > MOST_DEPTH:  # a cycle is too deep as well
        raise NotPlainError
    leaf = _LEAVES.get(base)
    if leaf is not None:
        found = leaf(value)
        _take(room, len(encoded_text(found)) + 1)
        return found
    tag, entries = _CONTAINERS[base]
    _take(room, 9)
    found = []
    for entry in entries(value):
        if tag == "d":
            _take(room, 3)
            found.append([_encode(part, depth + 1, room) for part in entry])
        else:
            found.append(_encode(entry, depth + 1, room))
    return [tag, sorted(found, key=encoded_text) if tag == "S" else found]


def _take(room, characters):
    room[0] -= characters
    if room[0] < 0:
        raise NotPlainError


def make_functions(write, current, place):
    """Return the two functions that altered tests call.

    Args:
        write: Writes a record.
        current: Returns the id of the running test, or an empty text.
        place: Returns where a frame is, as [path, line].
    """
    numbers = {}
    name_of = type.__dict__["__name__"].__get__
    kind, identity, frame_at, whole = type, id, sys._getframe, int  # noqa: SLF001 -- the one way to know who asks

    def ask(number, value, token=None):
        known = numbers.get(identity(token))
        record = {"kind": "ask", "id": current(), "check": number if kind(number) is whole else None}
        record["token"] = known[1] if known is not None else None
        record["value"] = encode(value)
        record["type"] = str.__str__(name_of(kind(value)))[:_MOST_NAME]
        record["at"] = place(frame_at(1))
        write(record)
        return True

    def token(number):
        made = Token()
        numbers[identity(made)] = (made, number)
        return made

    return ask, token


def install(write, current, place):
    """Make the two functions known to every module, under names that no honest code has."""
    import builtins

    ask, token = make_functions(write, current, place)
    setattr(builtins, ASK_FUNCTION, ask)
    setattr(builtins, TOKEN_FUNCTION, token)
