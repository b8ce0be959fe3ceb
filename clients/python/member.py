# SPDX-License-Identifier: Apache-2.0
"""A member for tests that judge histories: it does random things in groups and writes down, one JSON object a line, what
it asks for (before it asks) and what it sees. It ends when its standard input does.

    python3 member.py ADDRESS NAME SEED ROUNDS

The test writes "end" when all members have done their rounds; then each says goodbye to room with one Safe message, and
reports "complete" when it has seen as many goodbyes as the test says: "end 3"."""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
from typing import Any

import evensong
from evensong import Message, SelfLeave, Service, Transition, View

SERVICES = [Service.RELIABLE, Service.FIFO, Service.CAUSAL, Service.AGREED, Service.SAFE]


def main() -> None:
    address, name, seed, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rnd = random.Random(seed)
    session = evensong.connect(address, name)
    # One lock keeps records in the session's own order: what it had seen before it sent.
    lock = threading.Lock()
    goodbyes, wanted = 0, 0

    def write(kind: str, **what: Any) -> None:
        sys.stdout.write(json.dumps({"kind": kind, **what}) + "\n")
        sys.stdout.flush()

    def complete() -> None:
        if wanted and goodbyes >= wanted:
            write("complete")

    def read() -> None:
        nonlocal goodbyes
        for event in session:
            with lock:
                if isinstance(event, Message):
                    write("message", sender=event.sender, groups=event.groups, service=int(event.service), type=event.type,
                          data=base64.b64encode(event.data).decode())
                    if event.type == 999:
                        goodbyes += 1
                        complete()
                elif isinstance(event, View):
                    write("view", group=event.group, id=event.id, members=event.members, cause=event.cause.name.lower(),
                          sets=event.vs_sets, mine=event.mine)
                elif isinstance(event, Transition):
                    write("signal", group=event.group, id=event.id)
                elif isinstance(event, SelfLeave):
                    write("selfleave", group=event.group)

    write("connect", private=session.private_group)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def multicast(service: Service, kind: int, data: bytes, *groups: str) -> None:
        with lock:
            write("multicast", groups=groups, service=int(service), type=kind, data=base64.b64encode(data).decode())
        session.multicast(data, *groups, service=service, type=kind)

    def change(join: bool, group: str) -> None:
        with lock:
            write("join" if join else "leave", group=group)
        (session.join if join else session.leave)(group)

    change(True, "room")
    inside = {"red": False, "green": False}
    for n in range(rounds):
        if rnd.random() < 0.15:
            group = rnd.choice(sorted(inside))
            inside[group] = not inside[group]
            change(inside[group], group)
        else:
            groups = rnd.sample(["room", "red", "green"], rnd.randint(1, 2))
            service = rnd.choice(SERVICES)
            if rnd.random() < 0.2:
                service |= Service.SELF_DISCARD
            multicast(service, n, b"%s %d " % (name.encode(), n) + rnd.randbytes(rnd.choice([0, 50, 3000])), *groups)
    with lock:
        write("ready")
    for line in sys.stdin:
        word, _, count = line.partition(" ")
        if word.strip() == "end":
            multicast(Service.SAFE, 999, b"goodbye of " + name.encode(), "room")
            with lock:
                wanted = int(count)
                complete()
    session.disconnect()
    reader.join(10)


main()
