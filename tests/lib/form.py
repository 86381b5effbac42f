"""multipart/form-data both ways: bodies as a test wants them, byte for byte, and a strict reader of what an upstream got."""

import re
from dataclasses import dataclass

BOUNDARY = "tallygate-test-boundary"


@dataclass(frozen=True)
class Part:
    name: str
    data: bytes
    filename: str | None = None
    type: str | None = None
    head: bytes = b""


def text(name, value):
    """A scalar field."""
    value = value if isinstance(value, bytes) else str(value).encode()
    return b'Content-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value


def file(name, data, filename="a.png", type="image/png"):
    """A file field; without <filename> or <type> that part of its head is left out."""
    head = f'Content-Disposition: form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"') + "\r\n"
    return (head + (f"Content-Type: {type}\r\n" if type else "") + "\r\n").encode() + data


def form(*parts, boundary=BOUNDARY):
    """The body of these parts (bytes: head, empty line, content)."""
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


def content_type(boundary=BOUNDARY):
    return f"multipart/form-data; boundary={boundary}"


def parse(kind, body):
    """The parts of a body, by the grammar and nothing beside it; an AssertionError where it strays."""
    found = re.fullmatch(r'multipart/form-data; ?boundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', kind)
    assert found, f"no boundary in {kind!r}"
    mark = b"--" + (found[1] or found[2]).encode()
    assert body.startswith(mark + b"\r\n"), body[:200]
    inside, last, epilogue = body[len(mark):].rpartition(b"\r\n" + mark + b"--")
    assert last and epilogue in (b"", b"\r\n"), body[-200:]
    return [_part(piece) for piece in (inside + b"").split(b"\r\n" + mark)]


def _part(piece):
    assert piece.startswith(b"\r\n"), piece[:100]
    head, empty, data = piece[2:].partition(b"\r\n\r\n")
    assert empty, piece[:100]
    fields = dict(re.split(r":[ ]?", line, maxsplit=1) for line in head.decode("utf-8", "surrogateescape").split("\r\n"))
    fields = {k.lower(): v for k, v in fields.items()}
    said = re.match(r'form-data; name="([^"]*)"(?:; filename="([^"]*)")?$', fields["content-disposition"])
    assert said, fields
    return Part(said[1], data, said[2], fields.get("content-type"), head)


def names(parts):
    return [p.name for p in parts]
