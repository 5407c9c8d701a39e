"""A program for a separate network namespace: a name server with changing answers, and its clients.

python rebinding.py EXECUTOR      prints what was seen, as JSON
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from typing import cast

from calls import executed
from test_hostile_addresses import CALLS

PUBLIC, INSIDE = "93.184.216.34", "127.0.0.1"


class ChangingNames(asyncio.DatagramProtocol):
    """Answers the first question for an IPv4 address with a public one, every later one with one inside."""

    def __init__(self) -> None:
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5  # of the question: labels, a zero, type and class (RFC 1035, 4.1.2)
        question, kind = data[12:end], struct.unpack("!H", data[end - 4 : end - 2])[0]
        answers = b""
        if kind == 1:
            address = INSIDE if self.asked else PUBLIC
            self.asked += 1
            answers = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answers else 0, 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + question + answers, addr)


async def main(name: str) -> dict[str, object]:
    names = ChangingNames()
    loop = asyncio.get_running_loop()
    serving, _ = await loop.create_datagram_endpoint(lambda: names, local_addr=("127.0.0.1", 53))
    counts = {PUBLIC: 0, INSIDE: 0}

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts[writer.get_extra_info("sockname")[0]] += 1
        writer.close()

    outside = await asyncio.start_server(note, PUBLIC, 0)
    port = outside.sockets[0].getsockname()[1]
    inside = await asyncio.start_server(note, INSIDE, port)
    said: list[str] = []
    for _ in range(2):
        executor_id, given = CALLS[name]("changing.example", port)
        try:
            said.append(str(await executed(executor_id, given | {"timeout": 5})))
        except Exception as error:  # noqa: BLE001 - the type is the result
            said.append(type(error).__name__)
    for server in (outside, inside):
        server.close()
    serving.close()
    return {"outside": counts[PUBLIC], "inside": counts[INSIDE], "asked": names.asked, "then": said[-1]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
