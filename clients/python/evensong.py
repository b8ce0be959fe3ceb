# SPDX-License-Identifier: Apache-2.0
"""A client for Evensong daemons, and for those of the Spread toolkit, in one file and on the standard library only.

    import evensong

    with evensong.connect("4803@localhost", "alice") as session:
        session.join("chat")
        session.multicast(b"hello", "chat")
        for event in session:
            print(event)

A session is one connection to a daemon. It joins groups, sends messages to groups and to single sessions, and receives
events in the one order that all members see: Message, View, Transition, SelfLeave and Rejected.

The file has three layers, each usable alone. The codec writes what a client may send. Handshake and Decoder are
machines without a socket: bytes in, values out. Session, for threads, and AsyncSession, for asyncio, move their bytes.

What did not work raises Error, with the protocol's number as its code. What is no value of the right type raises TypeError or
ValueError, before anything is sent.

It needs Python 3.9 or newer and speaks the protocol of docs/wire/client-protocol.md; the numbers in comments are its
sections. It was written from that document alone and shares no code with the daemon, so that each checks the other.

Copy this file into your program or put its directory on the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from typing import AsyncIterator, Callable, Deque, Iterator, List, Optional, Sequence, Tuple, Union

__all__ = [
    "connect", "connect_async", "Session", "AsyncSession", "Service", "Cause", "Request", "Message", "View", "Transition",
    "SelfLeave", "Rejected", "Event", "Auth", "NULL", "IP", "password", "Error", "Code", "Handshake", "Decoder",
    "LOCAL_BIG", "DEFAULT_PORT", "MAX_BODY", "__version__",
]

__version__ = "0.1.0"

DEFAULT_PORT = 4803

# What this library says it is: a 4.4.0 client, whose protocol it speaks (2.1).
_LIBRARY_VERSION = (4, 4, 0)

_HEADER = 48
_NAME = 32
_MAX_GROUPS = 100
# Data and group names of one message (3.5).
_MAX_PAYLOAD = 143952
# MAX_BODY is the largest message to one group, in bytes.
MAX_BODY = _MAX_PAYLOAD - _NAME
_MAX_USER = 10
# A daemon may send far more names than a client may: all members of a group (5.7). More is taken for a broken stream.
_SANE_GROUPS = 1 << 20
_SANE_DATA = 1 << 28
# How long a goodbye waits for the daemon to close, in seconds.
_GOODBYE = 2.0

# The mark of a word's byte order: both bits are set by a little-endian machine, clear by a big-endian one (3.1).
_MARK = 0x80000080

_TYPE_JOIN = 0x00010000
_TYPE_LEAVE = 0x00020000
_TYPE_KILL = 0x00040000
_TYPE_REJECT = 0x00400000
_TYPE_REGULAR_VIEW = 0x1000
_TYPE_TRANSITION = 0x2000
_TYPE_MEMBERSHIP = 0x3F00
_CAUSES = 0x0F00
_LEVELS = 0x3F

LOCAL_BIG = sys.byteorder == "big"


class Service(enum.IntFlag):
    """What a sender asks for: exactly one of the six levels, with SELF_DISCARD if it wants no copy for itself (3.2)."""

    UNRELIABLE = 0x01
    RELIABLE = 0x02
    FIFO = 0x04
    CAUSAL = 0x08
    AGREED = 0x10
    SAFE = 0x20
    SELF_DISCARD = 0x40

    @property
    def level(self) -> "Service":
        """The level without marks."""
        return Service(self & _LEVELS)


class Cause(enum.IntEnum):
    """Why there is a new view."""

    JOIN = 0x100
    LEAVE = 0x200
    DISCONNECT = 0x400
    NETWORK = 0x800


class Request(enum.Enum):
    """A kind of request that a daemon's access rules can refuse."""

    MULTICAST = "multicast"
    JOIN = "join"
    LEAVE = "leave"


class Code(enum.IntEnum):
    """The error numbers of the protocol and of the original's library (7.2). Those of the daemon come in one byte."""

    ILLEGAL_SPREAD = -1
    COULD_NOT_CONNECT = -2
    REJECT_QUOTA = -3
    REJECT_NO_NAME = -4
    REJECT_ILLEGAL_NAME = -5
    REJECT_NOT_UNIQUE = -6
    REJECT_VERSION = -7
    CONNECTION_CLOSED = -8
    REJECT_AUTH = -9
    ILLEGAL_SESSION = -11
    ILLEGAL_SERVICE = -12
    ILLEGAL_MESSAGE = -13
    ILLEGAL_GROUP = -14
    MESSAGE_TOO_LONG = -17


_CODE_TEXT = {
    Code.ILLEGAL_SPREAD: "no legal daemon address",
    Code.COULD_NOT_CONNECT: "cannot connect",
    Code.REJECT_QUOTA: "the daemon serves as many sessions as it may",
    Code.REJECT_NO_NAME: "the daemon wants a name",
    Code.REJECT_ILLEGAL_NAME: "illegal name: want 1 to 10 characters from '$' to '~'",
    Code.REJECT_NOT_UNIQUE: "the name is in use at this daemon",
    Code.REJECT_VERSION: "the daemon does not serve this version",
    Code.CONNECTION_CLOSED: "the connection is closed",
    Code.REJECT_AUTH: "authentication was refused",
    Code.ILLEGAL_SESSION: "the session is closed",
    Code.ILLEGAL_SERVICE: "illegal service",
    Code.ILLEGAL_MESSAGE: "the daemon sent something that is no message",
    Code.ILLEGAL_GROUP: "illegal group",
    Code.MESSAGE_TOO_LONG: "the message is too long",
}


# What a program, or its user, can do after a refusal.
_ADVICE = {
    Code.REJECT_QUOTA: "end other sessions, or connect to another daemon",
    Code.REJECT_NO_NAME: "give one to connect",
    Code.REJECT_ILLEGAL_NAME: "choose another",
    Code.REJECT_NOT_UNIQUE: "choose another, or none and the daemon invents one; it is free again a moment after its session ended",
    Code.REJECT_AUTH: "the daemon's configuration says which methods it allows, and whom; give yours as auth=[...]; where it requires TLS, dial evensongs://host:port",
}
# A daemon that was killed leaves no word in its log.
_LOST = "it was lost, and the daemon may have ended: see evensong status, and if it runs, its log says why; connect opens a new session"


class Error(Exception):
    """Something that did not work. code is one of Code, or a number that a daemon sent and this library does not know."""

    def __init__(self, code: int, detail: str = "") -> None:
        try:
            self.code: int = Code(code)
            text = _CODE_TEXT[Code(code)]
        except ValueError:
            self.code, text = code, "refused with code %d" % code
        self.detail = detail
        super().__init__(text + (": " + detail if detail else ""))


# Events


@dataclasses.dataclass(frozen=True)
class Message:
    """An ordinary message, delivered in the view that is current at its place in the order."""

    sender: str
    """The private group of the sending session; a destination for an answer."""
    groups: Tuple[str, ...]
    """All destinations as the sender wrote them."""
    service: Service
    type: int
    """The 16-bit tag of the sending application, signed."""
    data: bytes
    endian_mismatch: bool = False
    """The sender's machine has another byte order than this one. Data is never converted."""


@dataclasses.dataclass(frozen=True)
class View:
    """A membership of a group, the same at all its members."""

    group: str
    id: Tuple[int, int, int]
    """Only equality has a meaning."""
    members: Tuple[str, ...]
    """Private groups, in the same order at all members."""
    cause: Cause
    changed: str
    """Who joined, left or was disconnected; empty if the network is the cause."""
    vs_sets: Tuple[Tuple[str, ...], ...]
    """Who came together: with the network as cause they divide members, else there is one with the changed member (5.3)."""
    mine: int
    """The index of the receiver's own set."""
    index: int = -1
    """The receiver's place in members; -1 if it is none of them."""

    def came(self, me: str) -> Tuple[str, ...]:
        """The members that came together with me from its previous view, me among them."""
        if self.cause is Cause.NETWORK:
            return next((s for s in self.vs_sets if me in s), ())
        if me not in self.members:
            return ()
        if self.cause is Cause.JOIN and self.changed == me:
            return (me,)
        if self.cause is Cause.JOIN:
            return tuple(m for m in self.members if m != self.changed)
        return self.members


@dataclasses.dataclass(frozen=True)
class Transition:
    """The transitional signal: from here to the group's next view, Safe is safe only among those that move on together."""

    group: str
    id: Tuple[int, int, int]
    """The view that is ending."""


@dataclasses.dataclass(frozen=True)
class SelfLeave:
    """This session's leave was ordered; nothing of the group follows."""

    group: str


@dataclasses.dataclass(frozen=True)
class Rejected:
    """One of this session's own requests, refused by the daemon's access rules. Nobody else has seen it."""

    request: Request
    groups: Tuple[str, ...]
    service: Service
    type: int
    data: bytes


Event = Union[Message, View, Transition, SelfLeave, Rejected]


# Arguments


def _wrong(what: str, value: object, want: str, hint: str = "") -> TypeError:
    return TypeError("%s: want %s, not %s%s" % (what, want, type(value).__name__, "; " + hint if hint else ""))


def _text(what: str, value: object, hint: str = "") -> str:
    if not isinstance(value, str):
        raise _wrong(what, value, "str", hint)
    return value


def _number(what: str, value: object, hint: str = "") -> int:
    if not isinstance(value, int):
        raise _wrong(what, value, "int", hint)
    return value


def _bytes(what: str, value: object) -> bytes:
    """Anything with a buffer. A number is none, though bytes(5) is five zeros."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        raise _wrong(what, value, "bytes", "encode it: text.encode()")
    try:
        raw: bytes = memoryview(value).tobytes()  # type: ignore[arg-type]
        return raw
    except TypeError:
        raise _wrong(what, value, "bytes") from None


def _seconds(value: object) -> Optional[float]:
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        raise _wrong("timeout", value, "seconds as a number, or None to wait for ever")
    return float(value)


def _patience(value: object) -> Optional[float]:
    """How long connecting may take: no time at all would be a mistake."""
    seconds = _seconds(value)
    if seconds is not None and not seconds > 0:
        raise ValueError("timeout: %r: want a positive number of seconds, or None to wait for ever" % (value,))
    return seconds


# Codec


def _legal(name: str, longest: int) -> bool:
    return 0 < len(name) <= longest and all(0x24 <= ord(c) <= 0x7E for c in name)


def _field(name: str) -> bytes:
    """A name in its 32 bytes. Destinations may be anything that fits; the daemon takes what it does not know as unknown."""
    try:
        raw = name.encode("latin-1")
    except UnicodeEncodeError:
        raise Error(Code.ILLEGAL_GROUP, "%r: want characters of one byte" % name) from None
    if not 0 < len(raw) < _NAME or 0 in raw:
        raise Error(Code.ILLEGAL_GROUP, "%r: want 1 to %d bytes, none of them zero" % (name, _NAME - 1))
    return raw.ljust(_NAME, b"\0")


def _name(field: bytes) -> str:
    """The visible part: receivers stop at the first NUL, and live without one (3.4)."""
    return field.split(b"\0", 1)[0].decode("latin-1")


def _order(word: bytes) -> str:
    """The byte order of the machine that wrote a word, by its mark, as struct wants it."""
    little = word[0] & 0x80 and word[3] & 0x80
    if not little and (word[0] & 0x80 or word[3] & 0x80):
        raise Error(Code.ILLEGAL_MESSAGE, "half of a byte-order mark in %s" % word.hex())
    return "<" if little else ">"


def _word(value: int, big: bool) -> bytes:
    return struct.pack(">I" if big else "<I", value & ~_MARK | (0 if big else _MARK))


def encode_connect(user: str, membership: bool = True, priority: int = 0, version: Sequence[int] = _LIBRARY_VERSION) -> bytes:
    """The connect message (2.1). An empty user leaves the name to the daemon."""
    if _text("name", user) and not _legal(user, _MAX_USER):
        raise Error(Code.REJECT_ILLEGAL_NAME, repr(user))
    flags = (1 if membership else 0) | (min(max(_number("priority", priority), 0), 1) << 4)
    return bytes(version) + bytes((flags, len(user))) + user.encode("ascii")


def encode_choice(methods: Sequence[str]) -> bytes:
    """The 90 bytes that choose authentication methods (2.3). The third slot stays empty: a daemon may need it."""
    if not 1 <= len(methods) <= 2 or any(not 0 < len(m) < 30 for m in methods):
        raise Error(Code.REJECT_AUTH, "want one or two methods, got %r" % (list(methods),))
    return b"".join(m.encode("ascii").ljust(30, b"\0") for m in methods).ljust(90, b"\0")


def encode_frame(kind: int, private: str, groups: Sequence[str], mess_type: int = 0, data: bytes = b"", big: bool = LOCAL_BIG) -> bytes:
    """One frame from client to daemon (3), in the byte order of this machine unless told otherwise."""
    if not -0x8000 <= _number("type", mess_type) <= 0x7FFF:
        raise Error(Code.ILLEGAL_MESSAGE, "type %d: want -32768 to 32767" % mess_type)
    if len(groups) > _MAX_GROUPS:
        raise Error(Code.ILLEGAL_GROUP, "%d groups in one message, at most %d" % (len(groups), _MAX_GROUPS))
    if len(data) + _NAME * len(groups) > _MAX_PAYLOAD:
        raise Error(Code.MESSAGE_TOO_LONG, "%d bytes to %d group%s, at most %d" % (len(data), len(groups), "" if len(groups) == 1 else "s", _MAX_PAYLOAD - _NAME * len(groups)))
    ints = ">i" if big else "<i"
    return b"".join((
        _word(kind, big), _field(private), struct.pack(ints, len(groups)), _word((mess_type & 0xFFFF) << 8, big),
        struct.pack(ints, len(data)), b"".join(map(_field, groups)), data,
    ))


def _int16(value: int) -> int:
    return value - 0x10000 if value & 0x8000 else value


def _view_id(raw: bytes, order: str) -> Tuple[int, int, int]:
    a, b, c = struct.unpack(order + "III", raw)
    return a, b, c


class Decoder:
    """Takes the daemon's stream apart: feed it bytes as they come, and take events. private is the session's own name."""

    def __init__(self, private: str) -> None:
        self.private = private
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes that are not a whole event yet, or not taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Adds bytes of the stream."""
        self._buffer += data

    def next(self) -> Optional[Event]:
        """The next event, or None until more bytes have come. A broken stream raises Error; nothing good follows."""
        b = self._buffer
        if len(b) < _HEADER:
            return None
        order = _order(bytes(b[:4]))
        kind, = struct.unpack_from(order + "I", b, 0)
        kind &= ~_MARK
        num, = struct.unpack_from(order + "i", b, 36)
        size, = struct.unpack_from(order + "i", b, 44)
        if not 0 <= num <= _SANE_GROUPS or not 0 <= size <= _SANE_DATA:
            raise Error(Code.ILLEGAL_MESSAGE, "%d groups and %d bytes" % (num, size))
        # A reject has the original type word between header and groups; data_len does not count it (4.6).
        extra = 4 if kind & _TYPE_REJECT else 0
        end = _HEADER + extra + _NAME * num + size
        if len(b) < end:
            return None
        raw = bytes(b[:end])
        del b[:end]
        first = _HEADER + extra
        groups = tuple(_name(raw[at:at + _NAME]) for at in range(first, first + _NAME * num, _NAME))
        return self._event(order, kind, raw, groups, raw[end - size:])

    def _event(self, order: str, kind: int, raw: bytes, groups: Tuple[str, ...], data: bytes) -> Event:
        name = _name(raw[4:36])
        if kind & _TYPE_REJECT:
            return self._rejected(order, raw, groups, data)
        if not kind & _TYPE_MEMBERSHIP:
            if not kind & _LEVELS:
                raise Error(Code.ILLEGAL_MESSAGE, "type %#x" % kind)
            hint_order = _order(raw[40:44])
            return Message(name, groups, Service(kind), self._type(raw), data, (hint_order == ">") != LOCAL_BIG)
        if kind & _TYPE_REGULAR_VIEW:
            return self._view(order, kind, name, groups, data)
        if kind & _TYPE_TRANSITION:
            if len(data) < 12:
                raise Error(Code.ILLEGAL_MESSAGE, "a transitional signal of %d bytes" % len(data))
            return Transition(name, _view_id(data[:12], order))
        if kind & Cause.LEAVE:
            return SelfLeave(name)
        raise Error(Code.ILLEGAL_MESSAGE, "membership type %#x" % kind)

    @staticmethod
    def _type(raw: bytes) -> int:
        hint, = struct.unpack(_order(raw[40:44]) + "I", raw[40:44])
        return _int16((hint & ~_MARK) >> 8 & 0xFFFF)

    def _rejected(self, order: str, raw: bytes, groups: Tuple[str, ...], data: bytes) -> Rejected:
        old, = struct.unpack_from(order + "I", raw, _HEADER)
        old &= ~_MARK
        # The last name is the sender's own, which the daemon appends.
        groups = groups[:-1] if groups and groups[-1] == self.private else groups
        if old & (_TYPE_JOIN | Cause.JOIN):
            return Rejected(Request.JOIN, groups, Service(0), 0, b"")
        if old & (_TYPE_LEAVE | Cause.LEAVE):
            return Rejected(Request.LEAVE, groups, Service(0), 0, b"")
        return Rejected(Request.MULTICAST, groups, Service(old), self._type(raw), data)

    def _view(self, order: str, kind: int, group: str, members: Tuple[str, ...], data: bytes) -> View:
        def broken(what: str) -> Error:
            return Error(Code.ILLEGAL_MESSAGE, "a view of %s %s" % (group, what))

        try:
            cause = Cause(kind & _CAUSES)
        except ValueError:
            raise broken("with causes %#x" % (kind & _CAUSES)) from None
        if len(data) < 20:
            raise broken("with %d bytes" % len(data))
        count, offset = struct.unpack_from(order + "ii", data, 12)
        sets: List[Tuple[str, ...]] = []
        mine, at = -1, 20
        for i in range(count):
            if at + 4 > len(data):
                raise broken("whose sets end early")
            if at - 20 == offset:
                mine = i
            size, = struct.unpack_from(order + "i", data, at)
            at += 4
            if size < 0 or at + _NAME * size > len(data):
                raise broken("with a set of %d names" % size)
            sets.append(tuple(_name(data[k:k + _NAME]) for k in range(at, at + _NAME * size, _NAME)))
            at += _NAME * size
        if mine < 0:
            raise broken("that does not say which set is mine")
        changed = ""
        if cause is not Cause.NETWORK:
            if len(sets[0]) != 1:
                raise broken("that does not say who changed")
            changed = sets[0][0]
        index = members.index(self.private) if self.private in members else -1
        return View(group, _view_id(data[:12], order), members, cause, changed, tuple(sets), mine, index)


# Handshake


@dataclasses.dataclass(frozen=True)
class Auth:
    """An authentication method: its name, and what the client sends when it is the method's turn."""

    name: str
    credentials: bytes = dataclasses.field(default=b"", repr=False)
    answer: bool = False
    """The daemon says in one byte whether the credentials are right."""


NULL = Auth("NULL")
IP = Auth("IP")


def password(user: str, secret: str) -> Auth:
    """The method PWORD (2.3). It travels as it is: use it over a Unix socket or a network that you trust."""
    name, word = _text("user", user).encode(), _text("secret", secret).encode()
    if not 0 < len(name) <= 32 or not 0 < len(word) <= 8 or 0 in name or 0 in word:
        raise Error(Code.REJECT_AUTH, "want a user of 1 to 32 bytes and a password of 1 to 8")
    return Auth("PWORD", name.ljust(32, b"\0") + word.ljust(8, b"\0"), answer=True)


def _refusal(byte: int) -> Error:
    code = byte - 0x100 if byte >= 0x80 else byte
    return Error(code, next((text for c, text in _ADVICE.items() if c == code), "refused by the daemon"))


class Handshake:
    """The conversation before the first message as a machine without a socket.

    Send what start returns, then feed what arrives and send what feed returns, until done. Nothing may be sent before
    the answer to the block before it: the original's daemon reads each block with one read (2.1, 2.3)."""

    def __init__(self, user: str = "", membership: bool = True, priority: int = 0, auth: Sequence[Auth] = (NULL,)) -> None:
        self.private = ""
        """The session's private group, once done."""
        self.daemon_version = (0, 0, 0)
        self.done = False
        self._connect = encode_connect(user, membership, priority)
        if not isinstance(auth, Sequence) or not all(isinstance(a, Auth) for a in auth):
            raise _wrong("auth", auth, "a list of methods", "[evensong.NULL] or [evensong.password(user, secret)], for example")
        self._auth = list(auth)
        self._choice = encode_choice([a.name for a in auth])
        self._buffer = bytearray()
        self._step: Callable[[], Optional[bytes]] = self._auth_list
        self._turn = 0

    @property
    def rest(self) -> bytes:
        """What came behind the handshake: the beginning of the message stream."""
        return bytes(self._buffer)

    def start(self) -> bytes:
        """The first block to send."""
        return self._connect

    def feed(self, data: bytes) -> bytes:
        """Takes bytes and returns the next block to send, often none. A refusal raises Error with the daemon's code."""
        self._buffer += data
        out = b""
        while not self.done:
            block = self._step()
            if block is None:
                break
            out += block
        return out

    def _take(self, n: int) -> bytes:
        raw = bytes(self._buffer[:n])
        del self._buffer[:n]
        return raw

    def _auth_list(self) -> Optional[bytes]:
        b = self._buffer
        if not b:
            return None
        if b[0] >= 0x80:
            raise _refusal(b[0])
        if len(b) < 1 + b[0]:
            return None
        offered = self._take(1 + b[0])[1:].decode("latin-1").split()
        if not offered:
            self._step = self._accept  # the reason follows
            return b""
        for a in self._auth:
            if a.name not in offered:
                raise Error(Code.REJECT_AUTH, "the daemon offers %s, not %s" % (", ".join(offered), a.name))
        self._step = self._method
        return self._choice + self._credentials()

    def _credentials(self) -> bytes:
        """Skips methods that ask for nothing; what the next one sends."""
        while self._turn < len(self._auth) and not self._auth[self._turn].credentials:
            self._turn += 1
        if self._turn == len(self._auth):
            self._step = self._accept
            return b""
        return self._auth[self._turn].credentials

    def _method(self) -> Optional[bytes]:
        a = self._auth[self._turn]
        if a.answer:
            if not self._buffer:
                return None
            if self._buffer[0] > 1:
                raise _refusal(self._buffer[0])
            if self._take(1) == b"\0":
                raise Error(Code.REJECT_AUTH, "%s: wrong credentials" % a.name)
        self._turn += 1
        return self._credentials()

    def _accept(self) -> Optional[bytes]:
        b = self._buffer
        if not b:
            return None
        if b[0] != 1:
            raise _refusal(b[0])
        if len(b) < 5 or len(b) < 5 + b[4]:
            return None
        raw = self._take(5 + b[4])
        self.daemon_version = (raw[1], raw[2], raw[3])
        self.private = raw[5:].decode("latin-1")
        self.done = True
        return b""


# Addresses

# In front of an address the Go client takes it for the wish to speak Evensong's own dialect; the second one, inside of TLS.
_OWN = "evensong://"
_OWN_SECURE = "evensongs://"


@dataclasses.dataclass(frozen=True)
class _Address:
    """Where a daemon is: a path of a Unix socket, or host and port."""

    path: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    secure: bool = False
    """The address asks for TLS."""


def _parse_address(text: str, given: str = "") -> _Address:
    """Reads "4803" (this machine), "4803@host", "host:port", "[::1]:4803", "unix:/path"; empty is 4803 (1.3). Errors quote
    given, if text is only what was made of it."""
    if _text("address", text, 'write "4803" or "4803@host"').strip().startswith(_OWN_SECURE):
        at = _parse_address(_OWN + text.strip()[len(_OWN_SECURE):], text)
        return dataclasses.replace(at, secure=True)

    def wrong(hint: str) -> Error:
        return Error(Code.ILLEGAL_SPREAD, "%r: %s" % (given or text, hint))

    def is_port(word: str) -> bool:
        return word.isascii() and word.isdigit() and 0 < int(word) < 1 << 16

    def port(word: str) -> int:
        if not is_port(word):
            raise wrong("the port is not a number from 1 to 65535")
        return int(word)

    def here(word: str) -> str:
        """The daemon with this port on this machine. TLS is for TCP, so it is no Unix socket then."""
        return scheme + ("localhost:" if scheme == _OWN_SECURE else "") + (word if is_port(word) else str(DEFAULT_PORT))

    name = _text("address", text, 'write "4803" or "4803@host"').strip()
    scheme = _OWN_SECURE if given else ""  # what is to be written has it, too
    if name.startswith(_OWN):
        name = name[len(_OWN):]  # these ports speak both dialects, and this client one
        scheme = scheme or _OWN
    name = name or str(DEFAULT_PORT)
    if name.startswith("unix:"):
        if name == "unix:":
            raise wrong("no path behind unix:")
        return _Address(path=name[len("unix:"):])
    if "://" in name:
        raise wrong("unknown scheme; write PORT, PORT@HOST, HOST:PORT or unix:PATH, perhaps with evensong:// or, for TLS, evensongs:// in front")
    if "@" in name:
        number, _, host = name.partition("@")
        if not host:
            raise wrong("no host behind the @; for this machine write %s" % here(number))
        return _Address(host=host.strip("[]"), port=port(number))
    if name.isdigit():
        if hasattr(socket, "AF_UNIX"):
            return _Address(path="/tmp/%d" % port(name))
        return _Address(host="localhost", port=port(name))
    if name.startswith("/"):
        raise wrong("for a socket file write unix:%s" % name)
    if name.count(":") > 1 and not name.startswith("["):
        raise wrong("a port is missing, or the brackets around an IPv6 address: write it as in %s[::1]:%d, or as in %s%d@::1"
                    % (scheme, DEFAULT_PORT, scheme, DEFAULT_PORT))
    host, colon, number = name.rpartition(":")
    if colon and not host:
        raise wrong("no host in front of the colon; for this machine write %s" % here(number))
    if not host or not number or ":" in host and not (host.startswith("[") and host.endswith("]")):
        if not scheme:
            raise wrong("a port is missing; write %d@%s" % (DEFAULT_PORT, name.rstrip(":")))
        raise wrong("a port is missing; write %s%s:%d" % (scheme, name.rstrip(":/"), DEFAULT_PORT))
    return _Address(host=host.strip("[]"), port=port(number))


def _service(service: int) -> int:
    level = _number("service", service, "evensong.Service.SAFE, for example") & _LEVELS
    if level == 0 or level & (level - 1) or service & ~(_LEVELS | Service.SELF_DISCARD | 0x70000000):
        raise Error(Code.ILLEGAL_SERVICE, "%#x: want one level, with SELF_DISCARD if you like" % service)
    return int(service)


def _group(name: str) -> str:
    if not _legal(_text("group", name), _NAME - 1):
        raise Error(Code.ILLEGAL_GROUP, "%r: want 1 to %d characters from '$' to '~'" % (name, _NAME - 1))
    return name


# TLS


def _context(at: _Address, given: Optional[ssl.SSLContext]) -> Optional[ssl.SSLContext]:
    """What TLS needs to know, None for a connection without it."""
    if given is not None and not isinstance(given, ssl.SSLContext):
        raise _wrong("ssl_context", given, "ssl.SSLContext", 'ssl.create_default_context(cafile="ca.crt"), for example')
    if not at.secure and given is None:
        return None
    if at.path:
        raise Error(Code.ILLEGAL_SPREAD, "TLS is for TCP, and on the Unix socket %s nobody could listen; write host:port, or leave TLS out" % at.path)
    return given or ssl.create_default_context()


def _tls_error(e: OSError) -> Error:
    """Why TLS came to nothing, and what to do. The daemon judges this side's certificate behind the handshake (TLS 1.3)."""
    if isinstance(e, ssl.SSLCertVerificationError):
        hint = "ssl_context=ssl.create_default_context(cafile=...) names the authority that has signed the daemon's certificate, and the host of the address must stand in it"
        return Error(Code.REJECT_AUTH, "the daemon's certificate is not accepted: %s; %s" % (e.verify_message, hint))
    reason = str(getattr(e, "reason", "") or "")
    for part, code, text in (
        ("ALERT_HANDSHAKE_FAILURE", Code.CONNECTION_CLOSED, "the daemon does not offer TLS; leave it out, or give the daemon TLSCertificate and TLSKey"),
        ("WRONG_VERSION_NUMBER", Code.CONNECTION_CLOSED, "what answers there does not speak TLS; leave it out, or give an Evensong daemon TLSCertificate and TLSKey"),
        ("CERTIFICATE_REQUIRED", Code.REJECT_AUTH, "the daemon wants to see a certificate: ssl_context.load_cert_chain(certfile, keyfile) gives one"),
        ("CERTIFICATE", Code.REJECT_AUTH, "the daemon does not accept this certificate; one of the authorities in its TLSClientCA must have signed it"),
        ("UNKNOWN_CA", Code.REJECT_AUTH, "the daemon does not accept this certificate; one of the authorities in its TLSClientCA must have signed it"),
    ):
        if part in reason:
            return Error(code, "%s (%s)" % (text, e))
    return Error(Code.CONNECTION_CLOSED, str(e))


class _Secure:
    """TLS on a socket, with the methods of a socket that a session uses.

    ssl.SSLSocket is not meant for one thread that receives while another one sends, so here TLS works on bytes in memory, under a lock
    that nobody holds while the network is waited for."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._lock = threading.Lock()  # of the three above
        self._write_lock = threading.Lock()  # taken before the other: what TLS writes goes out in its order
        self._plain = b""  # decrypted and not taken; of the receiving thread
        self._ended = False

    def handshake(self, left: Callable[[], Optional[float]]) -> None:
        """Runs the handshake; left says how many seconds it still has."""
        first = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                self._flush()
                return
            finally:
                with contextlib.suppress(OSError):
                    self._flush()  # an alert, too
            self._sock.settimeout(left())
            data = self._sock.recv(1 << 16)
            if first and data and data[0] >= 0x80:
                raise _refusal(data[0])  # before it looks at what we say, or it knows no TLS
            first = False
            if not data:
                raise Error(Code.CONNECTION_CLOSED, "the daemon ended the connection during the handshake of TLS")
            self._in.write(data)

    def _flush(self) -> None:
        with self._write_lock:
            with self._lock:
                data = self._out.read()
            if data:
                self._sock.sendall(data)

    def wait(self, timeout: Optional[float]) -> bool:
        """Whether there is something to take, or the end, within so many seconds."""
        until = None if timeout is None else time.monotonic() + max(timeout, 0)
        while not self._plain and not self._ended:
            with self._lock:
                try:
                    self._plain = self._tls.read(1 << 16)
                    self._ended = not self._plain
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    self._ended = True
                answer = self._out.pending > 0
            if answer:
                self._flush()
            if self._plain or self._ended:
                break
            if until is not None and not _readable(self._sock, until - time.monotonic()):
                return False
            data = self._sock.recv(1 << 16)
            with self._lock:
                if data:
                    self._in.write(data)
                else:
                    self._ended = True  # without the word of TLS for it, as when a daemon was killed
        return True

    def recv(self, size: int) -> bytes:
        self.wait(self._sock.gettimeout())
        data, self._plain = self._plain[:size], self._plain[size:]
        if not data and not self._ended:
            raise socket.timeout("timed out")
        return data

    def sendall(self, data: bytes) -> None:
        with self._write_lock:
            with self._lock:
                view = memoryview(data)
                while view:
                    view = view[self._tls.write(view):]
                out = self._out.read()
            self._sock.sendall(out)

    def shutdown(self, how: int) -> None:
        if how == socket.SHUT_WR:
            with self._lock:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()  # says the end; what the daemon answers is for recv
            self._flush()
        self._sock.shutdown(how)

    def settimeout(self, seconds: Optional[float]) -> None:
        self._sock.settimeout(seconds)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


class _Frames:
    """What both kinds of session write."""

    private_group: str

    def _join(self, group: str) -> bytes:
        return encode_frame(_TYPE_JOIN, self.private_group, [_group(group)])

    def _leave(self, group: str) -> bytes:
        return encode_frame(_TYPE_LEAVE, self.private_group, [_group(group)])

    def _multicast(self, data: bytes, groups: Tuple[str, ...], service: int, mess_type: int) -> bytes:
        body = _bytes("data", data)
        if not groups:
            raise Error(Code.ILLEGAL_GROUP, 'none is given; name one or more behind the data: multicast(data, "chat")')
        for g in groups:
            _text("group", g, "give them one by one: multicast(data, *groups)" if isinstance(g, (list, tuple, set)) else "")
        return encode_frame(_service(service), self.private_group, groups, mess_type, body)

    def _kill(self) -> bytes:
        return encode_frame(_TYPE_KILL, self.private_group, [self.private_group])


# Session


class Session(_Frames):
    """A connection to a daemon for programs with threads. Made by connect.

    One thread may receive while others send; each send is one piece. Iterating over a session gives its events until
    the connection ends, which raises Error unless this side has closed it."""

    def __init__(self, sock: Union[socket.socket, _Secure], handshake: Handshake) -> None:
        self._sock = sock
        self.private_group = handshake.private
        """This session's name, unique in the cluster; a destination like a group."""
        self.daemon_version = handshake.daemon_version
        self._decoder = Decoder(handshake.private)
        self._decoder.feed(handshake.rest)
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()
        self._kept: Deque[Event] = deque()
        self._closed = False

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return "<evensong.Session %s%s>" % (self.private_group, ", closed" if self._closed else "")

    def fileno(self) -> int:
        """The socket's descriptor, for select. Readable is not yet a whole event, and poll may have one without it."""
        return self._sock.fileno()

    def join(self, group: str) -> None:
        """Asks to become a member. The view that has this session in it is the answer. Twice is once."""
        self._send(self._join(group))

    def leave(self, group: str) -> None:
        """Asks to leave. The answer is a SelfLeave; there is none if the session is no member."""
        self._send(self._leave(group))

    def multicast(self, data: bytes, *groups: str, service: int = Service.AGREED, type: int = 0) -> None:
        """Sends a message to groups, private groups among them. It is on its way when this returns, not delivered.

        It blocks while the daemon does not read, which is how the daemon slows senders down. A session that is in busy
        groups must receive all the same, in another thread if need be: the daemon closes clients that do not read."""
        self._send(self._multicast(data, groups, service, type))

    def receive(self, timeout: Optional[float] = None) -> Event:
        """The next event. Waits at most timeout seconds, for ever if it is None, and raises TimeoutError then."""
        timeout = _seconds(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        with self._receive_lock:
            while True:
                event = self._next()
                if event is not None:
                    return event
                self._read(None if until is None else until - time.monotonic())

    def poll(self) -> bool:
        """Whether receive would return at once. It does not wait."""
        with self._receive_lock:
            while True:
                event = self._next()
                if event is not None:
                    self._kept.append(event)
                    return True
                try:
                    self._read(0)
                except TimeoutError:
                    return False

    def __iter__(self) -> Iterator[Event]:
        while True:
            try:
                yield self.receive()
            except Error:
                if self._closed:
                    return
                raise

    def disconnect(self) -> None:
        """Says goodbye and closes. What was sent before is still delivered, in order. May be called again. The end of a with
        block calls it."""
        with self._send_lock:
            if self._closed:
                return
            self._closed = True  # first: a receiver that sees the end must know whose it is
            with contextlib.suppress(OSError, ValueError):
                self._sock.sendall(self._kill())
                # A close with unread bytes would be a reset, which can destroy what the daemon has not read yet.
                self._sock.shutdown(socket.SHUT_WR)
                until = time.monotonic() + _GOODBYE
                while _readable(self._sock, until - time.monotonic()) and self._sock.recv(1 << 16):
                    pass
        self.kill()

    def close(self) -> None:
        """The same as disconnect, for contextlib.closing and fingers that know it."""
        self.disconnect()

    def kill(self) -> None:
        """Closes without a goodbye. Others see a disconnect all the same. May be called again, from any thread."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that is receiving
        self._sock.close()

    def _send(self, frame: bytes) -> None:
        if self._closed:
            raise Error(Code.ILLEGAL_SESSION)
        with self._send_lock:
            try:
                self._sock.sendall(frame)
            except OSError as e:
                if self._closed:  # by another thread, meanwhile
                    raise Error(Code.ILLEGAL_SESSION) from e
                raise Error(Code.CONNECTION_CLOSED, "%s: %s" % (e, _LOST)) from e

    def _next(self) -> Optional[Event]:
        return self._kept.popleft() if self._kept else self._decoder.next()

    def _read(self, timeout: Optional[float]) -> None:
        """Waits for bytes without the socket's own timeout, which senders share."""
        if self._closed:
            raise Error(Code.ILLEGAL_SESSION)
        try:
            if timeout is not None and not _readable(self._sock, timeout):
                raise TimeoutError("nothing came in time")
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            raise
        except (OSError, ValueError) as e:
            if self._closed:
                raise Error(Code.ILLEGAL_SESSION) from e
            raise Error(Code.CONNECTION_CLOSED, "%s: %s" % (e, _LOST)) from e
        if not data:
            raise Error(Code.ILLEGAL_SESSION) if self._closed else Error(Code.CONNECTION_CLOSED, _LOST)
        self._decoder.feed(data)


def _readable(sock: Union[socket.socket, _Secure], timeout: float) -> bool:
    if isinstance(sock, _Secure):
        return sock.wait(timeout)
    with selectors.DefaultSelector() as s:
        s.register(sock, selectors.EVENT_READ)
        return bool(s.select(max(timeout, 0)))


def connect(address: str = "", name: str = "", *, membership: bool = True, priority: int = 0, auth: Sequence[Auth] = (NULL,),
            timeout: Optional[float] = 5.0, ssl_context: Optional[ssl.SSLContext] = None) -> Session:
    """Connects to a daemon and opens a session.

    address is "4803" (this machine's Unix socket, the default), "4803@host", "host:port" or "unix:/path". With "evensong://"
    in front it means the same: a daemon of Evensong serves both dialects there, and this client speaks that of the Spread
    toolkit, so names and messages are no longer than here. "evensongs://" is that inside of TLS.

    ssl_context says whom TLS trusts, and which certificate is shown to a daemon that asks for one; without one the system's
    authorities are trusted. With one the connection is TLS whatever stands in front of the address. Unix sockets do without.

    name has 1 to 10 characters and is unique at the daemon; without one the daemon invents it. Without membership the
    session gets messages only: no views, no signals, no self-leaves. timeout in seconds covers connecting and the
    handshake; None waits for ever. Error has the reason of a refusal as its code."""
    at = _parse_address(address)
    handshake = Handshake(name, membership, priority, auth)
    timeout = _patience(timeout)
    until = None if timeout is None else time.monotonic() + timeout
    context = _context(at, ssl_context)

    def rest() -> Optional[float]:
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            raise Error(Code.CONNECTION_CLOSED, "the daemon did not answer in time")
        return left

    sock: Union[socket.socket, _Secure] = _dial(at, timeout)
    try:
        if context is not None and isinstance(sock, socket.socket):
            secure = _Secure(sock, context, at.host)
            secure.handshake(rest)
            sock = secure
        block = handshake.start()
        while True:
            if block:
                sock.sendall(block)
            if handshake.done:
                break
            sock.settimeout(rest())
            data = sock.recv(1 << 12)
            if not data:
                raise Error(Code.CONNECTION_CLOSED, "the daemon ended the connection during the handshake")
            block = handshake.feed(data)
        sock.settimeout(None)
        return Session(sock, handshake)
    except socket.timeout as e:
        sock.close()
        raise Error(Code.CONNECTION_CLOSED, "the daemon did not answer in time") from e
    except OSError as e:
        sock.close()
        raise _tls_error(e) from e
    except BaseException:
        sock.close()
        raise


def _no_daemon(at: _Address, e: Exception) -> Error:
    """Why there is no connection, and what to do."""
    where = "socket " + at.path if at.path else "%s port %d" % (at.host, at.port)
    if isinstance(e, socket.gaierror):
        return Error(Code.ILLEGAL_SPREAD, "the host %r has no address: %s" % (at.host, e.strerror))
    if not isinstance(e, OSError):
        return Error(Code.ILLEGAL_SPREAD, "%s: %s" % (where, e))  # a host that is no name, a path with zeros
    if isinstance(e, FileNotFoundError):
        why = "there is no " + where
    elif isinstance(e, ConnectionRefusedError):
        why = "nobody listens at " + where
    elif isinstance(e, socket.timeout):
        why = "no answer from %s in time" % where
    else:
        why = "%s: %s" % (where, e.strerror or e)
    return Error(Code.COULD_NOT_CONNECT, why + '; start a daemon, for example by "evensong dev", or connect to one elsewhere: "4803@host"')


def _dial(at: _Address, timeout: Optional[float]) -> socket.socket:
    try:
        if at.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(at.path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((at.host, at.port), timeout)
    except (OSError, ValueError) as e:
        raise _no_daemon(at, e) from e
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


# AsyncSession


class AsyncSession(_Frames):
    """A connection to a daemon for asyncio. Made by connect_async. It belongs to the loop that made it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handshake: Handshake) -> None:
        self._reader = reader
        self._writer = writer
        self.private_group = handshake.private
        """This session's name, unique in the cluster; a destination like a group."""
        self.daemon_version = handshake.daemon_version
        self._decoder = Decoder(handshake.private)
        self._decoder.feed(handshake.rest)
        self._closed = False

    async def __aenter__(self) -> "AsyncSession":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def join(self, group: str) -> None:
        """Asks to become a member; see Session.join."""
        await self._send(self._join(group))

    async def leave(self, group: str) -> None:
        """Asks to leave; see Session.leave."""
        await self._send(self._leave(group))

    async def multicast(self, data: bytes, *groups: str, service: int = Service.AGREED, type: int = 0) -> None:
        """Sends a message; see Session.multicast. It waits while the daemon does not read."""
        await self._send(self._multicast(data, groups, service, type))

    async def receive(self) -> Event:
        """The next event. To bound the wait use asyncio.wait_for: nothing is lost when it is cancelled."""
        while True:
            event = self._decoder.next()
            if event is not None:
                return event
            if self._closed:
                raise Error(Code.ILLEGAL_SESSION)
            try:
                data = await self._reader.read(1 << 16)
            except OSError as e:
                raise Error(Code.CONNECTION_CLOSED, "%s: %s" % (e, _LOST)) from e
            if not data:
                raise Error(Code.ILLEGAL_SESSION) if self._closed else Error(Code.CONNECTION_CLOSED, _LOST)
            self._decoder.feed(data)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            try:
                event = await self.receive()
            except Error:
                if self._closed:
                    return
                raise
            yield event

    async def disconnect(self) -> None:
        """Says goodbye and closes. May be called again. The end of an async with block calls it."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError, RuntimeError, asyncio.TimeoutError):
            self._writer.write(self._kill())
            if self._writer.can_write_eof():
                self._writer.write_eof()
            await asyncio.wait_for(self._drain(), _GOODBYE)  # as in Session.disconnect
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def close(self) -> None:
        """The same as disconnect."""
        await self.disconnect()

    async def _drain(self) -> None:
        while await self._reader.read(1 << 16):
            pass

    async def _send(self, frame: bytes) -> None:
        if self._closed:
            raise Error(Code.ILLEGAL_SESSION)
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except OSError as e:
            raise Error(Code.CONNECTION_CLOSED, "%s: %s" % (e, _LOST)) from e


async def connect_async(address: str = "", name: str = "", *, membership: bool = True, priority: int = 0,
                        auth: Sequence[Auth] = (NULL,), timeout: Optional[float] = 5.0,
                        ssl_context: Optional[ssl.SSLContext] = None) -> AsyncSession:
    """Connects to a daemon from asyncio; the arguments are those of connect."""
    at = _parse_address(address)
    handshake = Handshake(name, membership, priority, auth)
    timeout = _patience(timeout)
    context = _context(at, ssl_context)
    try:
        return await asyncio.wait_for(_open(at, handshake, context), timeout)
    except asyncio.TimeoutError as e:
        raise Error(Code.CONNECTION_CLOSED, "the daemon did not answer in time") from e


async def _open(at: _Address, handshake: Handshake, context: Optional[ssl.SSLContext]) -> AsyncSession:
    try:
        if at.path:
            reader, writer = await asyncio.open_unix_connection(at.path)
        else:
            reader, writer = await asyncio.open_connection(at.host, at.port, ssl=context)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except ssl.SSLError as e:
        raise _tls_error(e) from e
    except (OSError, ValueError) as e:
        raise _no_daemon(at, e) from e
    try:
        writer.write(handshake.start())
        while not handshake.done:
            data = await reader.read(1 << 12)
            if not data:
                raise Error(Code.CONNECTION_CLOSED, "the daemon ended the connection during the handshake")
            writer.write(handshake.feed(data))
        return AsyncSession(reader, writer, handshake)
    except OSError as e:
        writer.close()
        raise _tls_error(e) from e
    except BaseException:
        writer.close()
        raise
