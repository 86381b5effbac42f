"""HTTP/2 with prior knowledge over a bare socket, frame by frame: what a client library would never do."""

import socket
import time
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .process import PATIENCE


@dataclass
class Stream:
    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    arrived: list = field(default_factory=list)

    def json(self):
        import json
        return json.loads(self.body)


class Http2:
    """One connection. Streams are known by their number; <reading> False leaves the peer's window as it is."""

    def __init__(self, gateway, timeout=20):
        self.timeout = timeout * PATIENCE
        self.sock = socket.create_connection(("127.0.0.1", gateway.public_port), self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.peer.initiate_connection()
        self.streams, self.closed, self.goaway, self.reading = {}, False, None, True
        self.push()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def push(self):
        self.sock.settimeout(self.timeout)
        self.sock.sendall(self.peer.data_to_send())

    def post(self, path, headers=(), body=None, end=True):
        """Opens a stream; with <body> sends it. Its number."""
        number = self.peer.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.peer.send_headers(number, [(":method", "POST"), (":scheme", "http"), (":authority", "gateway"), (":path", path),
                                        *((k.lower(), str(v)) for k, v in dict(headers).items())], end_stream=end and not body)
        self.push()
        if body:
            self.send(number, body, end)
        return number

    def send(self, number, data, end=True):
        """All of <data>, as the peer's windows allow; less when the stream ends first. How much went."""
        sent = 0
        while sent < len(data):
            stream = self.streams[number]
            if self.closed or stream.ended or stream.reset is not None:
                return sent
            room = min(self.peer.local_flow_control_window(number), self.peer.max_outbound_frame_size, len(data) - sent)
            if room <= 0:
                assert self.turn(20 * PATIENCE) or self.closed, "the peer's window stays closed"
                continue
            self.peer.send_data(number, data[sent:sent + room], end_stream=end and sent + room == len(data))
            sent += room
            self.push()
        return sent

    def reset(self, number, code=8):
        self.peer.reset_stream(number, code)
        self.push()

    def turn(self, timeout=None):
        """Reads once and books what came. False when the time is over."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(1 << 18)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        for event in self.peer.receive_data(data):
            self._book(event)
        self.push()
        return True

    def _book(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code
        elif stream is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
            stream.status = int(stream.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            stream.arrived.append((time.monotonic(), event.data))
            if self.reading and event.flow_controlled_length:
                self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)

    def until(self, condition, timeout=20):
        """Turns until <condition> holds; an AssertionError when the connection ends or the time is over."""
        end = time.monotonic() + timeout * PATIENCE
        while not condition():
            left = end - time.monotonic()
            assert left > 0 and not self.closed, f"{'closed' if self.closed else 'too late'}: {self.streams}"
            self.turn(left)

    def finish(self, number, timeout=20):
        """The stream, once the peer has ended it."""
        stream = self.streams[number]
        self.until(lambda: stream.ended or stream.reset is not None, timeout)
        return stream
