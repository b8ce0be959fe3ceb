# SPDX-License-Identifier: Apache-2.0
"""Tests of the client: the codec against captures of the original, the handshake against made-up daemons, and sessions
against real ones.

    python3 -m unittest -v                                       the captures only
    EVENSONG_DAEMONS=4803@127.0.0.1 python3 -m unittest -v       against a daemon, too; several are separated by commas
    EVENSONG_TLS=DIR,HOST:PORT,HOST:PORT ...                     against one with TLS, and one that requires it, with alice's certificate;
                                                                 DIR has ca.crt, alice.crt, alice.key, mallory.crt, mallory.key

"go test ./clients/python" runs all of it with daemons of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import re
import socket
import ssl
import struct
import threading
import time
import unittest
import uuid
from typing import Any, Callable, Dict, Iterator, List, Tuple

import evensong
from evensong import (Cause, Code, Decoder, Error, Event, Handshake, Message, Rejected, Request, SelfLeave, Service,
                      Transition, View)

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "vectors"
DAEMONS = [d for d in os.environ.get("EVENSONG_DAEMONS", "").split(",") if d]
TLS = os.environ.get("EVENSONG_TLS", "").split(",")
WAIT = 20.0


def vectors() -> Iterator[Tuple[str, Dict[str, Any]]]:
    for path in sorted(VECTORS.glob("*.json")):
        vector = json.loads(path.read_text())
        yield vector["name"], vector


class TestVectors(unittest.TestCase):
    """The captures: what the original's clients and daemon said to each other."""

    def test_there_are_vectors(self) -> None:
        self.assertGreaterEqual(len(list(vectors())), 26)

    def test_deliveries(self) -> None:
        """Every message of a daemon becomes the event that the capture says it is, whole and byte by byte."""
        count = 0
        for name, vector in vectors():
            for r in vector["records"]:
                if r["kind"] != "message" or r["dir"] != "daemon->client":
                    continue
                with self.subTest(vector=name, seq=r["seq"]):
                    raw, d = bytes.fromhex(r["hex"]), r["decoded"]
                    event = self.decode(raw)
                    self.compare(event, d, raw)
                    slow = Decoder("#nobody#x")
                    for i, byte in enumerate(raw):
                        self.assertIsNone(slow.next(), "an event out of %d of %d bytes" % (i, len(raw)))
                        slow.feed(bytes([byte]))
                    self.assertEqual(slow.next(), event)
                    self.assertEqual(slow.pending, 0)
                count += 1
        self.assertGreater(count, 100)

    def decode(self, raw: bytes) -> Event:
        d = Decoder("#nobody#x")
        d.feed(raw)
        event = d.next()
        assert event is not None
        return event

    def compare(self, event: Event, d: Dict[str, Any], raw: bytes) -> None:
        bits = int(d["type"], 16)
        if isinstance(event, Message):
            self.assertEqual((event.sender, list(event.groups), event.type), (d["sender"], d["groups"], d["mess_type"]))
            self.assertEqual(int(event.service), bits)
            self.assertEqual(event.endian_mismatch, (d["hint_byte_order"] == "big") != evensong.LOCAL_BIG)
            self.assertEqual(event.data, raw[len(raw) - d["data_len"]:])
        elif isinstance(event, View):
            m = d["membership"]
            self.assertEqual((event.group, list(event.members), list(event.id)), (d["sender"], d["groups"], m["gid"]))
            self.assertEqual([list(s) for s in event.vs_sets], m["vs_sets"])
            self.assertEqual(event.mine, m["local_vs_index"])
            self.assertEqual(int(event.cause), bits & 0xF00)
            self.assertEqual(event.changed, "" if event.cause is Cause.NETWORK else m["vs_sets"][0][0])
        elif isinstance(event, Transition):
            self.assertEqual(event.group, d["sender"])
            self.assertEqual(struct.pack("<3I", *event.id), raw[-12:])
        else:
            assert isinstance(event, SelfLeave)
            self.assertEqual((event.group, bits), (d["sender"], 0x200))

    def test_requests(self) -> None:
        """What clients of the original sent is what this one would send, in their byte order."""
        count = 0
        for name, vector in vectors():
            for r in vector["records"]:
                if r["dir"] != "client->daemon" or r["kind"] not in ("message", "connect", "auth_choice"):
                    continue
                raw, d = bytes.fromhex(r["hex"]), r["decoded"]
                with self.subTest(vector=name, seq=r["seq"]):
                    if r["kind"] == "connect":
                        if "#" in d["name"] or len(d["version"]) < 3:
                            continue  # an illegal name, and versions that are not ours
                        got = evensong.encode_connect(d["name"], bool(d["flags"] & 1), d["flags"] >> 4, d["version"])
                    elif r["kind"] == "auth_choice":
                        got = evensong.encode_choice([m for m in d["methods"] if m])
                    else:
                        data = raw[len(raw) - d["data_len"]:] if d["data_len"] else b""
                        got = evensong.encode_frame(int(d["type"], 16), d["sender"], d["groups"], d["mess_type"], data, d["byte_order"] == "big")
                        if int(d["type"], 16) & 0x40000:
                            raw = raw[:48] + got[48:]  # the original sends what is in its memory behind the name
                    self.assertEqual(got, raw)
                count += 1
        self.assertGreaterEqual(count, 80)

    def test_handshakes(self) -> None:
        """A handshake with the daemon of the captures, in pieces of any size."""
        done = 0
        for name, vector in vectors():
            by: Dict[str, List[Dict[str, Any]]] = {}
            for r in vector["records"]:
                by.setdefault(r["connection"], []).append(r)
            for records in by.values():
                if not records or records[0]["kind"] != "connect" or len(records[0]["decoded"]["version"]) < 3:
                    continue
                d = records[0]["decoded"]
                if d["version"] < [3, 16, 0] or "#" in d["name"]:
                    continue
                for size in (1, 3, 1 << 16):
                    with self.subTest(vector=name, size=size):
                        self.handshake(records, d, size)
                        done += 1
        self.assertGreater(done, 10)

    def handshake(self, records: List[Dict[str, Any]], d: Dict[str, Any], size: int) -> None:
        h = Handshake(d["name"], bool(d["flags"] & 1), d["flags"] >> 4)
        sent = h.start()
        for r in records:
            raw = bytes.fromhex(r["hex"]) if r.get("hex") else b""
            if r["kind"] in ("connect", "auth_choice"):
                self.assertEqual(sent, raw)
                sent = b""
            elif r["kind"] == "reject":
                with self.assertRaises(Error) as refused:
                    h.feed(raw)
                self.assertEqual(refused.exception.code, raw[0] - 0x100)
                return
            elif r["kind"] in ("auth_list", "accept"):
                for at in range(0, len(raw), size):
                    sent += h.feed(raw[at:at + size])
                if r["kind"] == "accept":
                    self.assertTrue(h.done)
                    self.assertEqual(h.private, r["decoded"]["private_group"])
                    self.assertEqual(h.daemon_version, (4, 4, 0))
                    return


class TestCodec(unittest.TestCase):
    """What the captures do not show."""

    def decode(self, raw: bytes, private: str = "#me#d") -> Event:
        d = Decoder(private)
        d.feed(raw)
        event = d.next()
        assert event is not None
        return event

    def test_types_are_signed(self) -> None:
        for big in (False, True):
            for t in (-32768, -2, 0, 1, 32767):
                raw = evensong.encode_frame(Service.FIFO, "#x#y", ["g"], t, b"z", big)
                event = self.decode(raw)
                assert isinstance(event, Message)
                self.assertEqual((event.type, event.data, event.groups), (t, b"z", ("g",)))
                self.assertEqual(event.endian_mismatch, big != evensong.LOCAL_BIG)

    def test_reject(self) -> None:
        """Four bytes with the old type stand between header and groups, and data_len does not count them (4.6)."""
        for order, big in (("<", False), (">", True)):
            for old, want in ((0x10, Request.MULTICAST), (0x100, Request.JOIN), (0x10000, Request.JOIN), (0x200, Request.LEAVE)):
                raw = bytearray(evensong.encode_frame(0x400000, "#me#d", ["secret", "#me#d"], 7, b"abc" if old == 0x10 else b"", big))
                raw[48:48] = struct.pack(order + "I", old | (0 if big else 0x80000080))
                event = self.decode(bytes(raw))
                assert isinstance(event, Rejected)
                self.assertEqual((event.request, event.groups), (want, ("secret",)))
                if want is Request.MULTICAST:
                    self.assertEqual((event.service, event.type, event.data), (Service.AGREED, 7, b"abc"))

    def test_names_without_end(self) -> None:
        raw = bytearray(evensong.encode_frame(Service.AGREED, "#x#y", ["g"]))
        raw[48:80] = b"a" * 32
        event = self.decode(bytes(raw))
        assert isinstance(event, Message)
        self.assertEqual(event.groups, ("a" * 32,))

    def test_broken_streams(self) -> None:
        good = evensong.encode_frame(Service.AGREED, "#x#y", ["g"], 0, b"abc", False)
        view = evensong.encode_frame(0x1100, "g", ["#me#d"], 0, bytes(12) + struct.pack("<ii", 1, 0) + struct.pack("<i", 1) + b"#me#d".ljust(32, b"\0"), False)
        self.assertIsInstance(self.decode(view), View)
        cases = {
            "half a mark": b"\x90\x00\x00\x00" + good[4:],
            "negative groups": good[:36] + b"\xff\xff\xff\xff" + good[40:],
            "negative data": good[:44] + b"\xff\xff\xff\xff" + good[48:],
            "huge data": good[:44] + b"\xff\xff\xff\x7f" + good[48:],
            "no type": b"\x80\x00\x00\x80" + good[4:],
            "two causes": b"\x80\x13\x00\x80" + view[4:],
            "no view id": evensong.encode_frame(0x1100, "g", ["#me#d"], 0, b"abc", False),
            "short signal": evensong.encode_frame(0x2000, "g", [], 0, b"abc", False),
            "sets end early": evensong.encode_frame(0x1100, "g", ["#me#d"], 0, bytes(12) + struct.pack("<ii", 2, 0) + struct.pack("<i", 0), False),
            "a set too large": evensong.encode_frame(0x1100, "g", ["#me#d"], 0, bytes(12) + struct.pack("<iii", 1, 0, 99), False),
            "nobody's set": evensong.encode_frame(0x1100, "g", ["#me#d"], 0, bytes(12) + struct.pack("<ii", 1, 8) + struct.pack("<i", 1) + bytes(32), False),
        }
        for name, raw in cases.items():
            with self.subTest(name):
                with self.assertRaises(Error) as e:
                    self.decode(raw)
                self.assertEqual(e.exception.code, Code.ILLEGAL_MESSAGE)

    def test_garbage(self) -> None:
        """Whatever comes, there is an event, a wait or an Error."""
        rnd = random.Random(1)
        seed = [bytes.fromhex(r["hex"]) for _, v in vectors() for r in v["records"] if r["kind"] == "message"]
        for _ in range(3000):
            raw = bytearray(rnd.choice(seed))
            for _ in range(rnd.randint(0, 4)):
                raw[rnd.randrange(min(len(raw), 120))] = rnd.randrange(256)
            d = Decoder("#a#b")
            d.feed(bytes(raw))
            try:
                d.next()
            except Error as e:
                self.assertEqual(e.code, Code.ILLEGAL_MESSAGE)

    def test_limits(self) -> None:
        full = evensong.encode_frame(Service.AGREED, "#x#y", ["g"], 0, bytes(evensong.MAX_BODY))
        self.assertEqual(len(full), 48 + 32 + evensong.MAX_BODY)
        calls: List[Tuple[Code, Callable[[], object]]] = [
            (Code.MESSAGE_TOO_LONG, lambda: evensong.encode_frame(Service.AGREED, "#x#y", ["g"], 0, bytes(evensong.MAX_BODY + 1))),
            (Code.ILLEGAL_GROUP, lambda: evensong.encode_frame(Service.AGREED, "#x#y", ["g"] * 101)),
            (Code.ILLEGAL_GROUP, lambda: evensong.encode_frame(Service.AGREED, "#x#y", ["g" * 32])),
            (Code.ILLEGAL_GROUP, lambda: evensong.encode_frame(Service.AGREED, "#x#y", ["\u20ac"])),
            (Code.ILLEGAL_MESSAGE, lambda: evensong.encode_frame(Service.AGREED, "#x#y", ["g"], 1 << 15)),
            (Code.REJECT_ILLEGAL_NAME, lambda: evensong.encode_connect("elevenchars")),
            (Code.REJECT_ILLEGAL_NAME, lambda: evensong.encode_connect("a b")),
            (Code.REJECT_AUTH, lambda: evensong.encode_choice(["A", "B", "C"])),
            (Code.REJECT_AUTH, lambda: evensong.password("u", "ninechars")),
        ]
        for code, call in calls:
            with self.assertRaises(Error) as e:
                call()
            self.assertEqual(e.exception.code, code)
        with self.assertRaises(Error) as e:
            calls[0][1]()
        self.assertIn("143921 bytes to 1 group, at most 143920", str(e.exception))

    def test_addresses(self) -> None:
        for text, want in {
            "": ("/tmp/4803", "", 4803), "4900": ("/tmp/4900", "", 4803), "4803@db1": ("", "db1", 4803), "db1:5000": ("", "db1", 5000),
            "[::1]:4803": ("", "::1", 4803), "4803@::1": ("", "::1", 4803), "unix:/run/x": ("/run/x", "", 4803),
            "evensong://db1:5000": ("", "db1", 5000), "evensong://unix:/run/x": ("/run/x", "", 4803), "evensong://": ("/tmp/4803", "", 4803),
            "evensongs://db1:5000": ("", "db1", 5000), "evensongs://4900@db1": ("", "db1", 4900), "evensong://4900@db1": ("", "db1", 4900), "evensong://[::1]:4803": ("", "::1", 4803),
        }.items():
            at = evensong._parse_address(text)
            self.assertEqual((at.path, at.host, at.port), want, text)
            self.assertEqual(at.secure, text.startswith("evensongs://"), text)
        for text, hint in {
            "host": "write 4803@host", "host:": "write 4803@host", "@host": "1 to 65535", "4803@": "for this machine write 4803", "70000@h": "1 to 65535",
            "h:x": "1 to 65535", "unix:": "no path", "-1@h": "1 to 65535", "/tmp/4803": "write unix:/tmp/4803", "::1": "a port is missing", "fe80::1:4803": "the brackets around an IPv6 address",
            "tcp://host:4803": "unknown scheme", "evensong://host": "write evensong://host:4803", "evensongs://host": "'evensongs://host': a port is missing; write evensongs://host:4803",
            "evensongs://::1": "write it as in evensongs://[::1]:4803", "evensongs://5000@": "write evensongs://localhost:5000", "evensong://5000@": "write evensong://5000",
            ":5000": "no host in front of the colon; for this machine write 5000", "evensongs://:": "write evensongs://localhost:4803", "evensong://evensong://h:1": "unknown scheme",
        }.items():
            with self.assertRaises(Error) as e:
                evensong._parse_address(text)
            self.assertEqual(e.exception.code, Code.ILLEGAL_SPREAD, text)
            self.assertIn(hint, str(e.exception))

    def test_came(self) -> None:
        everybody = ("#a#d", "#b#d", "#c#e")
        def view(cause: Cause, changed: str, sets: Tuple[Tuple[str, ...], ...]) -> View:
            return View("g", (1, 2, 3), everybody, cause, changed, sets, 0)
        self.assertEqual(view(Cause.JOIN, "#b#d", (("#b#d",),)).came("#a#d"), ("#a#d", "#c#e"))
        self.assertEqual(view(Cause.JOIN, "#b#d", (("#b#d",),)).came("#b#d"), ("#b#d",))
        self.assertEqual(view(Cause.LEAVE, "#x#d", (("#x#d",),)).came("#b#d"), everybody)
        self.assertEqual(view(Cause.NETWORK, "", (everybody[:2], everybody[2:])).came("#c#e"), everybody[2:])
        self.assertEqual(view(Cause.LEAVE, "#x#d", (("#x#d",),)).came("#x#d"), ())


class TestMistakes(unittest.TestCase):
    """What a program does wrong is told before anything is sent: what, and what to write instead."""

    def session(self) -> evensong.Session:
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        far.settimeout(0)
        self.far = far
        h = Handshake("x")
        h.feed(b"\x05NULL ")
        h.feed(b"\x01\x04\x04\x00\x04#x#d")
        self.assertTrue(h.done)
        s = evensong.Session(near, h)
        self.addCleanup(s.kill)
        return s

    def test_types(self) -> None:
        s: Any = self.session()
        e: Any = evensong  # no checker of types looks at these calls
        calls: List[Tuple[Callable[[], object], str]] = [
            (lambda: s.multicast("hello", "g"), "data: want bytes, not str; encode it: text.encode()"),
            (lambda: s.multicast(5, "g"), "data: want bytes, not int"),
            (lambda: s.multicast(None, "g"), "data: want bytes, not NoneType"),
            (lambda: s.multicast(b"x", ["a", "b"]), "group: want str, not list; give them one by one: multicast(data, *groups)"),
            (lambda: s.multicast(b"x", "a", b"b"), "group: want str, not bytes"),
            (lambda: s.multicast(b"x", "g", service="safe"), "service: want int, not str; evensong.Service.SAFE, for example"),
            (lambda: s.multicast(b"x", "g", type=1.5), "type: want int, not float"),
            (lambda: s.join(b"g"), "group: want str, not bytes"),
            (lambda: s.leave(["g"]), "group: want str, not list"),
            (lambda: s.receive("1"), "timeout: want seconds as a number, or None to wait for ever, not str"),
            (lambda: e.connect(4803), 'address: want str, not int; write "4803" or "4803@host"'),
            (lambda: e.connect(None), 'address: want str, not NoneType; write "4803" or "4803@host"'),
            (lambda: e.connect("4803", 7), "name: want str, not int"),
            (lambda: e.connect("4803", priority="1"), "priority: want int, not str"),
            (lambda: e.connect("4803", timeout="5"), "timeout: want seconds as a number, or None to wait for ever, not str"),
            (lambda: e.connect("4803", auth=evensong.IP), "auth: want a list of methods, not Auth; [evensong.NULL] or"),
            (lambda: e.connect("4803", auth=["NULL"]), "auth: want a list of methods"),
            (lambda: e.password("user", b"secret"), "secret: want str, not bytes"),
        ]
        for call, want in calls:
            with self.subTest(want):
                with self.assertRaises(TypeError) as wrong:
                    call()
                self.assertIn(want, str(wrong.exception))
        with self.assertRaises(BlockingIOError):
            self.far.recv(1)

    def test_values(self) -> None:
        s = self.session()
        calls: List[Tuple[Callable[[], object], Code, str]] = [
            (lambda: s.multicast(b"x"), Code.ILLEGAL_GROUP, 'none is given; name one or more behind the data: multicast(data, "chat")'),
            (lambda: s.join("a b"), Code.ILLEGAL_GROUP, "'a b': want 1 to 31 characters from '$' to '~'"),
            (lambda: s.multicast(b"x", "g" * 32), Code.ILLEGAL_GROUP, "want 1 to 31 bytes"),
            (lambda: s.multicast(b"x", "g", service=0), Code.ILLEGAL_SERVICE, "want one level"),
            (lambda: s.multicast(b"x", "g", type=1 << 15), Code.ILLEGAL_MESSAGE, "want -32768 to 32767"),
            (lambda: evensong.connect("unix:a\0b"), Code.COULD_NOT_CONNECT, "a\0b"),
            (lambda: evensong.connect("4803@" + "a" * 99), Code.ILLEGAL_SPREAD, "port 4803"),
        ]
        for call, code, want in calls:
            with self.subTest(want):
                with self.assertRaises(Error) as wrong:
                    call()
                self.assertEqual(wrong.exception.code, code)
                self.assertIn(want, str(wrong.exception))
        for timeout in (0, -1, float("nan")):
            with self.assertRaises(ValueError) as bad:
                evensong.connect("4803", timeout=timeout)
            self.assertIn("want a positive number of seconds", str(bad.exception))
        with self.assertRaises(BlockingIOError):
            self.far.recv(1)

    def test_buffers(self) -> None:
        s = self.session()
        for data in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
            s.multicast(data, "g")
            self.assertTrue(self.far.recv(1000).endswith(b"ab"))

    def test_secrets_stay_secret(self) -> None:
        self.assertNotIn("hunter2", repr(evensong.password("joe", "hunter2")))

    def test_close(self) -> None:
        """Closing is done once, however often and by whatever name it is asked for."""
        with self.session() as s:
            self.far.shutdown(socket.SHUT_WR)  # a daemon that has seen the goodbye
            s.close()
            s.close()
            s.disconnect()
        goodbye = self.far.recv(1000)
        self.assertEqual(len(goodbye), 80)
        self.assertEqual(self.far.recv(1000), b"")
        calls: List[Callable[[], object]] = [lambda: s.join("g"), lambda: s.multicast(b"x", "g"), s.receive]
        for call in calls:
            with self.assertRaises(Error) as e:
                call()
            self.assertEqual(e.exception.code, Code.ILLEGAL_SESSION)

    def test_lost(self) -> None:
        s = self.session()
        self.far.close()
        with self.assertRaises(Error) as e:
            s.receive(WAIT)
        self.assertEqual(e.exception.code, Code.CONNECTION_CLOSED)
        self.assertIn("the daemon may have ended: see evensong status", str(e.exception))


class TestHandshakes(unittest.TestCase):
    """Daemons that do what ours does not, or not easily."""

    def serve(self, *blocks: bytes) -> str:
        """A daemon that sends these blocks, each after it has read something, and closes."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def run() -> None:
            c, _ = listener.accept()
            with c:
                for b in blocks:
                    if not c.recv(4096):
                        return
                    c.sendall(b)
                c.settimeout(WAIT)
                try:
                    c.recv(4096)
                except OSError:
                    pass

        t = threading.Thread(target=run, daemon=True)
        t.start()
        self.addCleanup(t.join, WAIT)
        return "127.0.0.1:%d" % listener.getsockname()[1]

    def test_every_refusal(self) -> None:
        for code in (-3, -4, -5, -6, -7, -9, -42):
            with self.subTest(code=code):
                with self.assertRaises(Error) as e:
                    evensong.connect(self.serve(bytes([code + 0x100])), "x")
                self.assertEqual(e.exception.code, code)

    def test_no_method(self) -> None:
        with self.assertRaises(Error) as e:
            evensong.connect(self.serve(b"\x00\xf7"), "x")
        self.assertEqual(e.exception.code, Code.REJECT_AUTH)

    def test_method_not_offered(self) -> None:
        with self.assertRaises(Error) as e:
            evensong.connect(self.serve(b"\x03IP "), "x")
        self.assertIn("offers IP, not NULL", str(e.exception))

    def test_password(self) -> None:
        accept = b"\x01\x04\x04\x00\x06#joe#d"
        address = self.serve(b"\x06PWORD ", b"\x01" + accept)
        with evensong.connect(address, "joe", auth=[evensong.password("joe", "secret")]) as s:
            self.assertEqual(s.private_group, "#joe#d")
        with self.assertRaises(Error) as e:
            evensong.connect(self.serve(b"\x06PWORD ", b"\x00\xf7"), "joe", auth=[evensong.password("joe", "wrong")])
        self.assertEqual(e.exception.code, Code.REJECT_AUTH)

    def test_silence(self) -> None:
        with self.assertRaises(Error) as e:
            evensong.connect(self.serve(b"\x05NULL ", b""), "x", timeout=0.1)
        self.assertEqual(e.exception.code, Code.CONNECTION_CLOSED)
        self.assertIn("in time", str(e.exception))

    def test_nobody(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        for address, why in {"127.0.0.1:%d" % port: "nobody listens at 127.0.0.1 port %d" % port, "unix:/nowhere/at/all": "there is no socket /nowhere/at/all"}.items():
            with self.assertRaises(Error) as e:
                evensong.connect(address, "x")
            with self.assertRaises(Error) as e2:
                asyncio.run(evensong.connect_async(address, "x"))
            for wrong in (e.exception, e2.exception):
                self.assertEqual(wrong.code, Code.COULD_NOT_CONNECT)
                self.assertIn("cannot connect: %s; start a daemon" % why, str(wrong))

    def test_stream_behind_the_handshake(self) -> None:
        """Messages may share a read with the accept message."""
        frame = evensong.encode_frame(Service.SAFE, "#a#d", ["g"], 5, b"early", False)
        s = evensong.connect(self.serve(b"\x05NULL ", b"\x01\x04\x04\x00\x04#x#d" + frame), "x")
        event = s.receive(WAIT)
        assert isinstance(event, Message)
        self.assertEqual(event.data, b"early")
        s.kill()
        with self.assertRaises(Error) as e:
            s.receive()
        self.assertEqual(e.exception.code, Code.ILLEGAL_SESSION)
        self.assertEqual(list(s), [])


@unittest.skipUnless(len(TLS) == 3, "EVENSONG_TLS names no daemons with TLS")
class TestTLS(unittest.TestCase):
    """Sessions inside of TLS, and what is said where there can be none."""

    def context(self, who: str = "") -> ssl.SSLContext:
        c = ssl.create_default_context(cafile=TLS[0] + "/ca.crt")
        if who:
            c.load_cert_chain("%s/%s.crt" % (TLS[0], who), "%s/%s.key" % (TLS[0], who))
        return c

    def view(self, s: evensong.Session, members: int) -> None:
        while True:
            event = s.receive(WAIT)
            if isinstance(event, View) and len(event.members) == members:
                return

    def test_session(self) -> None:
        for address in ("evensongs://" + TLS[1], TLS[1]):
            with self.subTest(address), evensong.connect(address, "a", ssl_context=self.context()) as a:
                with evensong.connect(TLS[1], "b") as b:  # the same port
                    a.join("chat")
                    self.view(a, 1)
                    b.join("chat")
                    self.view(a, 2)
                    self.view(b, 2)
                    self.assertFalse(a.poll())
                    with self.assertRaises(TimeoutError):
                        a.receive(0.01)
                    for n in (0, 1, 17000, 140000):
                        b.multicast(bytes(n), "chat")
                        a.multicast(bytes(n + 1), "chat")
                        for s in (a, b):
                            sizes = []
                            for _ in range(2):
                                event = s.receive(WAIT)
                                self.assertIsInstance(event, Message)
                                if isinstance(event, Message):
                                    sizes.append(len(event.data))
                            self.assertEqual(sorted(sizes), [n, n + 1])
                    a.multicast(b"last words", "chat")
                    a.disconnect()
                    event = b.receive(WAIT)
                    self.assertTrue(isinstance(event, Message) and event.data == b"last words", event)
                    self.view(b, 1)
                    with self.assertRaises(Error) as e:
                        a.receive()
                    self.assertEqual(e.exception.code, Code.ILLEGAL_SESSION)

    def test_threads(self) -> None:
        """One receives while others send, and closing wakes the receiver."""
        with evensong.connect("evensongs://" + TLS[1], ssl_context=self.context()) as s:
            s.join("threads")
            self.view(s, 1)
            got: List[bytes] = []
            receiver = threading.Thread(target=lambda: got.extend(e.data for e in s if isinstance(e, Message)))
            receiver.start()
            def send() -> None:
                for _ in range(200):
                    s.multicast(bytes(1000), "threads")

            senders = [threading.Thread(target=send) for _ in range(3)]
            for t in senders:
                t.start()
            for t in senders:
                t.join()
            until = time.monotonic() + WAIT
            while len(got) < 600 and time.monotonic() < until:
                time.sleep(0.01)
            self.assertEqual(len(got), 600)
            s.kill()
            receiver.join(WAIT)
            self.assertFalse(receiver.is_alive())

    def test_asyncio(self) -> None:
        async def talk() -> None:
            async with await evensong.connect_async("evensongs://" + TLS[2], "a", ssl_context=self.context("alice")) as s:
                await s.join("chat")
                await s.multicast(b"hello", "chat")
                async for event in s:
                    if isinstance(event, Message):
                        self.assertEqual(event.data, b"hello")
                        return

        asyncio.run(asyncio.wait_for(talk(), WAIT))

    def test_errors(self) -> None:
        alice, mallory = self.context("alice"), self.context("mallory")
        for address, context, code, text in (
            ("evensongs://" + TLS[1], None, Code.REJECT_AUTH, "names the authority that has signed the daemon's certificate"),
            ("evensongs://" + TLS[2], self.context(), Code.REJECT_AUTH, "load_cert_chain"),
            ("evensongs://" + TLS[2], mallory, Code.REJECT_AUTH, "does not accept this certificate"),
            (TLS[2], None, Code.REJECT_AUTH, "where it requires TLS, dial evensongs://"),
            ("evensongs://" + DAEMONS[0], alice, Code.CONNECTION_CLOSED, "does not offer TLS"),
            ("evensongs://4803", alice, Code.ILLEGAL_SPREAD, "TLS is for TCP"),
        ):
            with self.subTest(address, text=text):
                with self.assertRaises(Error) as e:
                    evensong.connect(address, ssl_context=context)
                self.assertEqual(e.exception.code, code, e.exception)
                self.assertIn(text, str(e.exception))
                with self.assertRaises(Error) as e:
                    asyncio.run(evensong.connect_async(address, ssl_context=context))
                self.assertEqual(e.exception.code, code, e.exception)
                self.assertIn(text, str(e.exception))
        with self.assertRaises(TypeError):
            evensong.connect(TLS[1], ssl_context="ca.crt")  # type: ignore[arg-type]
        evensong.connect("evensongs://" + TLS[2], ssl_context=alice).close()

    def test_no_tls_there(self) -> None:
        """What answers is no daemon, refuses at once, or says nothing."""
        for answer, code, text in ((b"220 no daemon\r\n", Code.CONNECTION_CLOSED, "does not speak TLS"), (b"\xfd", Code.REJECT_QUOTA, "as many sessions"),
                                   (b"", Code.CONNECTION_CLOSED, "ended the connection"), (None, Code.CONNECTION_CLOSED, "did not answer in time")):
            with self.subTest(text), socket.create_server(("127.0.0.1", 0)) as server:
                def serve() -> None:
                    c, _ = server.accept()
                    with c:
                        if answer is None:
                            time.sleep(0.5)
                        elif answer:
                            c.sendall(answer)
                        c.shutdown(socket.SHUT_WR)
                        with contextlib.suppress(OSError):
                            while c.recv(1 << 12):
                                pass

                t = threading.Thread(target=serve)
                t.start()
                with self.assertRaises(Error) as e:
                    evensong.connect("127.0.0.1:%d" % server.getsockname()[1], timeout=0.2 if answer is None else WAIT, ssl_context=self.context())
                t.join(WAIT)
                self.assertEqual(e.exception.code, code, e.exception)
                self.assertIn(text, str(e.exception))



@unittest.skipUnless(DAEMONS, "EVENSONG_DAEMONS names no daemon")
class TestSessions(unittest.TestCase):
    """Real sessions at real daemons."""

    def setUp(self) -> None:
        self.group = "g" + uuid.uuid4().hex[:12]

    def open(self, i: int = 0, **options: Any) -> evensong.Session:
        s = evensong.connect(DAEMONS[i % len(DAEMONS)], **options)
        self.addCleanup(s.kill)
        return s

    def view(self, s: evensong.Session, n: int) -> View:
        """Reads up to the view with n members."""
        while True:
            event = s.receive(WAIT)
            if isinstance(event, View) and len(event.members) == n:
                return event

    def message(self, s: evensong.Session) -> Message:
        while True:
            event = s.receive(WAIT)
            if isinstance(event, Message):
                return event

    def test_life_of_a_group(self) -> None:
        a, b = self.open(0, name="pya"), self.open(1, name="pyb")
        a.join(self.group)
        first = self.view(a, 1)
        self.assertEqual((first.cause, first.changed, first.index), (Cause.JOIN, a.private_group, 0))
        b.join(self.group)
        second = self.view(a, 2)
        self.assertEqual(second, dataclasses.replace(self.view(b, 2), index=second.index))
        self.assertEqual(second.came(a.private_group), (a.private_group,))
        a.multicast(b"hello", self.group, service=Service.SAFE, type=-7)
        for s in (a, b):
            m = self.message(s)
            self.assertEqual((m.sender, m.groups, m.service, m.type, m.data), (a.private_group, (self.group,), Service.SAFE, -7, b"hello"))
            self.assertFalse(m.endian_mismatch)
        b.leave(self.group)
        self.assertEqual(b.receive(WAIT), SelfLeave(self.group))
        left = self.view(a, 1)
        self.assertEqual((left.cause, left.changed), (Cause.LEAVE, b.private_group))
        b.join(self.group)
        self.view(a, 2)
        b.disconnect()
        gone = self.view(a, 1)
        self.assertEqual((gone.cause, gone.changed), (Cause.DISCONNECT, b.private_group))

    def test_one_order(self) -> None:
        members = [self.open(i) for i in range(3)]
        for i, s in enumerate(members):
            s.join(self.group)
            for t in members[:i + 1]:
                self.view(t, i + 1)
        rnd = random.Random(7)
        services = [Service.CAUSAL, Service.AGREED, Service.SAFE]
        for n in range(60):
            for s in members:
                s.multicast(b"%d" % n, self.group, service=rnd.choice(services))
        seen = [[(m.sender, m.data) for m in (self.message(s) for _ in range(180))] for s in members]
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[0], seen[2])

    def test_private_and_several_groups(self) -> None:
        a, b = self.open(0), self.open(1)
        b.join(self.group)
        self.view(b, 1)
        a.multicast(b"to you", b.private_group, service=Service.FIFO)
        self.assertEqual(self.message(b).groups, (b.private_group,))
        a.multicast(b"once", self.group, b.private_group, "nobody")
        self.assertEqual(self.message(b).groups, (self.group, b.private_group, "nobody"))
        a.multicast(b"after", self.group)
        self.assertEqual(self.message(b).data, b"after")

    def test_self_discard(self) -> None:
        a, b = self.open(0), self.open(0)
        a.join(self.group)
        b.join(self.group)
        self.view(a, 2)
        a.multicast(b"not for me", self.group, service=Service.AGREED | Service.SELF_DISCARD)
        a.multicast(b"for all", self.group)
        self.assertEqual(self.message(a).data, b"for all")
        self.assertEqual([self.message(b).data for _ in range(2)], [b"not for me", b"for all"])

    def test_largest_and_empty(self) -> None:
        a = self.open(0)
        a.join(self.group)
        body = random.Random(3).randbytes(evensong.MAX_BODY)
        a.multicast(body, self.group)
        a.multicast(b"", self.group)
        self.assertEqual(self.message(a).data, body)
        self.assertEqual(self.message(a).data, b"")

    def test_without_membership(self) -> None:
        a, b = self.open(0, membership=False), self.open(0)
        a.join(self.group)
        b.join(self.group)
        while a.private_group not in self.view(b, 2).members:
            pass
        a.multicast(b"x", self.group)
        event = a.receive(WAIT)
        self.assertIsInstance(event, Message)

    def test_name_in_use(self) -> None:
        a = self.open(0)
        name = a.private_group.split("#")[1]
        with self.assertRaises(Error) as e:
            self.open(0, name=name[:10])
        self.assertEqual(e.exception.code, Code.REJECT_NOT_UNIQUE)
        self.assertIn("the name is in use at this daemon: choose another", str(e.exception))

    def test_readme(self) -> None:
        """The examples of the README run, one after the other, as they stand there but for the daemon and the groups."""
        text = pathlib.Path(__file__).with_name("README.md").read_text()
        examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        self.assertGreaterEqual(len(examples), 3)
        for example in examples:
            with self.subTest(example):
                self.assertIn('"4803@localhost"', example)
                code = example.replace('"4803@localhost"', repr(DAEMONS[0])).replace('"chat"', repr(self.group))
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(code, "README.md", "exec"), {})
                self.assertIn("hello", out.getvalue())

    def test_own_address(self) -> None:
        s = evensong.connect("evensong://" + DAEMONS[0])
        self.addCleanup(s.kill)
        s.join(self.group)
        self.view(s, 1)

    def test_poll_and_timeout(self) -> None:
        a = self.open(0)
        self.assertFalse(a.poll())
        with self.assertRaises(TimeoutError):
            a.receive(0.01)
        a.join(self.group)
        until = time.monotonic() + WAIT
        while not a.poll():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.001)
        self.view(a, 1)

    def test_threads(self) -> None:
        """One receives while others send, and closing wakes the receiver."""
        a = self.open(0)
        a.join(self.group)
        self.view(a, 1)
        got: List[bytes] = []
        full = threading.Event()

        def receive() -> None:
            for event in a:
                if isinstance(event, Message):
                    got.append(event.data)
                    if len(got) == 300:
                        full.set()

        receiver = threading.Thread(target=receive)
        receiver.start()

        def send(k: int) -> None:
            for n in range(100):
                a.multicast(b"%d %d" % (k, n), self.group)

        senders = [threading.Thread(target=send, args=(k,)) for k in range(3)]
        for t in senders:
            t.start()
        for t in senders:
            t.join(WAIT)
        self.assertTrue(full.wait(WAIT))
        a.disconnect()
        receiver.join(WAIT)
        self.assertFalse(receiver.is_alive())
        for k in range(3):
            self.assertEqual([d for d in got if d.startswith(b"%d " % k)], [b"%d %d" % (k, n) for n in range(100)])

    def test_goodbye_loses_nothing(self) -> None:
        """What was sent before disconnect arrives, though its sender had unread messages."""
        a, b = self.open(0), self.open(1)
        for s in (a, b):
            s.join(self.group)
        self.view(b, 2)
        for n in range(200):
            a.multicast(b"%d" % n, self.group)
        a.disconnect()
        self.assertEqual([self.message(b).data for _ in range(200)], [b"%d" % n for n in range(200)])

    def test_asyncio(self) -> None:
        async def run() -> None:
            async with await evensong.connect_async(DAEMONS[0]) as a, await evensong.connect_async(DAEMONS[-1]) as b:
                await a.join(self.group)
                await b.join(self.group)
                while True:
                    event = await asyncio.wait_for(b.receive(), WAIT)
                    if isinstance(event, View) and len(event.members) == 2:
                        break
                await b.multicast(b"over", self.group, service=Service.SAFE)
                async for event in a:
                    if isinstance(event, Message):
                        self.assertEqual((event.sender, event.data), (b.private_group, b"over"))
                        break
            with self.assertRaises(Error) as e:
                await a.multicast(b"late", self.group)
            self.assertEqual(e.exception.code, Code.ILLEGAL_SESSION)
            with self.assertRaises(Error) as e:
                await evensong.connect_async("unix:/nowhere/at/all")
            self.assertEqual(e.exception.code, Code.COULD_NOT_CONNECT)

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
