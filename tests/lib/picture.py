"""Pictures that a decoder accepts, made without any library; and the smallest heads of the other formats."""

import struct
import zlib


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width=64, height=None, length=None):
    """A PNG with an alpha channel. <length>: padded to exactly so many bytes with a private chunk."""
    height = height or width
    rows = zlib.compress(b"".join(b"\0" + bytes(4 * width) for _ in range(height)), 1)
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    end = _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    if length is None:
        return start + end
    room = length - len(start) - len(end) - 12
    assert room >= 0, f"a PNG of {width}x{height} is longer than {length}"
    return start + _chunk(b"paDd", bytes(room)) + end


def jpeg(width, height):
    """As far as its frame header, which is all that a size is read from."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + \
        b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01" + b"\xff\xd9"


def webp(width, height):
    head = b"VP8X" + struct.pack("<I", 10) + bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", 4 + len(head)) + b"WEBP" + head
