"""Two hundred callers in one thread, who go on through every death of the gateway and remember what they were told."""

import asyncio
import json
import random
import threading


class Told:
    """What a caller was told about one call."""

    __slots__ = ("secret", "key", "status", "request", "charge", "replayed", "code")

    def __init__(self, secret, key, status, headers, body):
        self.secret, self.key, self.status = secret, key, status
        self.request, self.charge = headers.get("x-request-id"), headers.get("tallygate-charge")
        self.replayed = "idempotent-replayed" in headers
        self.code = None if status == 200 else (json.loads(body).get("error") or {}).get("code")


async def read_reply(reader):
    """(status, headers in lower case, body) of one answer with a Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"]))


class Crowd:
    """<size> callers; each call is one of <calls> (body, weight), half of them with an Idempotency-Key and repeated until answered.

    aim() says where they call and with which keys; pause() returns once nobody is under way."""

    def __init__(self, size, calls, seed):
        self.size, self.calls, self.seed = size, calls, seed
        self.told, self.lost = [], 0
        self.port, self.secrets = None, []
        self._busy, self._halt, self._paused, self._round = 0, False, True, 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()

    def aim(self, port, secrets):
        self.told, self.lost = [], 0
        self.port, self.secrets, self._round = port, secrets, self._round + 1
        self._paused = False

    def pause(self, sleep, seconds):
        """Waits until every call was answered or has lost its connection; false when some hang."""
        self._paused = True
        for _ in range(int(seconds / 0.01)):
            if self._busy == 0:
                return True
            sleep(0.01)
        return False

    def join(self):
        self._halt = True
        self._thread.join()

    async def _main(self):
        await asyncio.gather(*(self._caller(i) for i in range(self.size)))

    async def _caller(self, i):
        rng, serial, again = random.Random(self.seed * 1000 + i), 0, None
        while not self._halt:
            if self._paused:
                await asyncio.sleep(0.02)
                continue
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(rng.uniform(0.005, 0.03))
                continue
            try:
                while not self._paused and not self._halt:
                    if again is None or again[0] != self._round:
                        serial += 1
                        key = f"{i}-{serial}" if rng.random() < 0.5 else None
                        again = (self._round, rng.choice(self.secrets), rng.choices(*self.calls)[0], key)
                    done = await self._call(reader, writer, *again[1:])
                    if done:
                        again = None
                    else:
                        await asyncio.sleep(0.02)
            except (OSError, EOFError, asyncio.IncompleteReadError):
                self.lost += 1
                if again is not None and again[3] is None:
                    again = None  # nobody knows, and nothing may be repeated
            finally:
                writer.close()

    async def _call(self, reader, writer, secret, body, key):
        """True: it was answered for good."""
        self._busy += 1
        try:
            text = json.dumps(body)
            writer.write((f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\n"
                          + (f"Idempotency-Key: {key}\r\n" if key else "") + f"Content-Length: {len(text)}\r\n\r\n{text}").encode())
            told = Told(secret, key, *await read_reply(reader))
        finally:
            self._busy -= 1
        self.told.append(told)
        return not (key and (told.status == 503 or told.code == "idempotency_in_progress"))
