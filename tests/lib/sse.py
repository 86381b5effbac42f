"""Server-sent events both ways: frames and scripts for a lying upstream, a strict reader of what a client got."""

import json
import socket
import time

from .upstream import PIXEL, head

DONE = b"data: [DONE]\n\n"


def event(kind, data, named=True, eol="\n"):
    """One frame. <data>: something for JSON, or text as it is to stand there."""
    text = data if isinstance(data, str) else json.dumps(data)
    lines = [f"event: {kind}"] * named + [f"data: {text}", "", ""]
    return eol.join(lines).encode()


def partial(index, operation="generation", b64=PIXEL, eol="\n", named=True, **more):
    kind = f"image_{operation}.partial_image"
    return event(kind, {"type": kind, "b64_json": b64, "created_at": 1700000000, "size": "1024x1024", "quality": "low", "background": "opaque",
                        "output_format": "png", "partial_image_index": index, **more}, named, eol)


def completed(usage=None, operation="generation", b64=PIXEL, eol="\n", named=True, **more):
    kind = f"image_{operation}.completed"
    body = {"type": kind, "b64_json": b64, "created_at": 1700000000, "size": "1024x1024", "quality": "low", "background": "opaque",
            "output_format": "png", **more}
    if usage is not None:
        body["usage"] = usage
    return event(kind, body, named, eol)


def failed(message="The server had an error", code="server_error", type="server_error"):
    return event("error", {"type": "error", "error": {"message": message, "type": type, "param": None, "code": code}})


def nodelay(conn):
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def chunk(data):
    return b"%x\r\n" % len(data) + data + b"\r\n"


def stream(*frames, end=True, piece=None, status=200, content_type="text/event-stream; charset=utf-8", after=None, **headers):
    """A script that sends these frames, a number among them being a pause in seconds.

    <piece>: so many bytes a write; <end>: the chunked body is ended properly, else the connection is cut after the last
    frame; <after>: called with the connection when all is sent.
    """
    def script(conn, request):
        nodelay(conn)
        conn.sendall(head(status, None, content_type, Transfer_Encoding="chunked", **headers))
        for frame in frames:
            if isinstance(frame, (int, float)):
                time.sleep(frame)
                continue
            for at in range(0, len(frame), piece or len(frame)):
                conn.sendall(chunk(frame[at:at + (piece or len(frame))]))
        if after is not None:
            after(conn)
        if not end:
            return False
        conn.sendall(b"0\r\n\r\n")
        return None
    return script


def parse(data):
    """[(event name or None, data as JSON or text)], with comments as (":", text). The stream has to end with an empty line."""
    text = data.decode().replace("\r\n", "\n")
    assert text.endswith("\n\n"), f"the last frame is not ended: {text[-200:]!r}"
    found = []
    for block in text[:-2].split("\n\n"):
        name, lines = None, []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "":
                found.append((":", value))
            elif field == "event":
                name = value
            elif field == "data":
                lines.append(value)
        if lines:
            body = "\n".join(lines)
            found.append((name, body if body == "[DONE]" else json.loads(body)))
    return found


def events(data):
    return [e for e in parse(data) if e[0] != ":"]


def kinds(data):
    return [name for name, _ in events(data)]
