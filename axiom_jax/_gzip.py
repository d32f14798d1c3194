"""Compressed files that users hand in: unpacked up to a limit, since a few bytes can stand for very many."""

import gzip
import io
import zlib

MODEL = (1 << 31) - 1  # bytes: protobuf reads no larger message
PROPERTY = 1 << 28  # bytes of VNN-LIB text
PART = 1 << 20  # bytes that are unpacked at once


class TooLong(ValueError):
    """There is more in it than the limit."""


def unpacked(content: bytes, most: int) -> bytes:
    """What a gzip file holds; anything else as it is.

    Args:
        most: bytes that may come out.

    Raises:
        TooLong: more would come out. ValueError: it is damaged or cut short.

    >>> unpacked(gzip.compress(b"abc"), 3), unpacked(b"abc", 3)
    (b'abc', b'abc')
    >>> unpacked(gzip.compress(b"abcd"), 3)
    Traceback (most recent call last):
    axiom_jax._gzip.TooLong: it unpacks to more than 3 bytes
    """
    if content[:2] != b"\x1f\x8b":
        return content
    file, found, size = gzip.GzipFile(fileobj=io.BytesIO(content)), list[bytes](), 0
    try:
        while size <= most and (part := file.read(min(PART, most + 1 - size))):  # a read sets aside all it may bring
            found.append(part)
            size += len(part)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError("it is damaged or cut short") from error
    if size > most:
        raise TooLong(f"it unpacks to more than {most:,} bytes")
    return b"".join(found)
