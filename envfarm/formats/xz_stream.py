"""Decompresses .xz of strangers: whole or refused, and never to more than any task has. PURE."""

import lzma

LARGEST_BYTES = 1 << 30
"""A task's archive has a few megabytes; a bomb has none packed, and all of memory unpacked."""


def decompress(data: bytes, *, most_bytes: int = LARGEST_BYTES) -> bytes:
    """Return all of an .xz stream: a reader that stops at the last member would not see that the end is missing.

    Raises:
        ValueError: It is damaged, cut short, or larger than `most_bytes`.
    """
    stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    try:
        whole = stream.decompress(data, max_length=most_bytes)
        if not stream.eof and len(whole) == most_bytes:
            whole += stream.decompress(b"", max_length=1)
    except (lzma.LZMAError, EOFError) as error:
        message = f"it is damaged: {error}"
        raise ValueError(message) from error
    if not stream.eof or len(whole) > most_bytes:
        message = "it is cut short" if len(whole) < most_bytes else "it is larger than any task"
        raise ValueError(message)
    return whole
