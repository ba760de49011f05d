"""Frames that break a rule get one refusal and a closed connection; the agent, its claim and its jobs live on."""

import os
import random
import struct
import time
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from envfarm.sandbox.client.frames import REPLY, TAGGED, Fields, Kind, Status, Tag, encode_fields, encode_frame

if TYPE_CHECKING:
    from tests.data.agents import Peer, Running

HEADER = struct.Struct(">IBBHIIQ")
KINDS_OF_ROAD = ("c-unix", "c-tcp", "c-first-process", "python-unix", "python-tcp")


@pytest.fixture(params=KINDS_OF_ROAD)
def agent(request: pytest.FixtureRequest, agents: ModuleType) -> "Running":
    with agents.launch(request.param) as running:
        yield running


def is_refused(peer: "Peer", status: Status) -> None:
    answer = peer.frame()
    assert Status(answer.status) == status
    assert answer.kind & REPLY
    assert peer.is_closed()


def header(size: int, kind: int = 4, *, flags: int = 0, fields: int = 0, counter: int = 0) -> bytes:
    return HEADER.pack(size, kind, flags, 0, 1, fields, counter)


def lives(agents: ModuleType, agent: "Running") -> None:
    """Demand that the holder of the claim can resume, and the agent does its work."""
    peer = agent.peer()
    assert peer.resume().status == Status.OK
    words = [(Tag.ARGUMENT, "/bin/echo"), (Tag.ARGUMENT, "alive")]
    answer = peer.ask(Kind.START, (Tag.JOB, os.urandom(4).hex()), *words, (Tag.WAIT_MS, 9999), (Tag.INLINE_BYTES, 99))
    assert Fields(answer.fields).data(Tag.OUTPUT)[32:] == b"alive\n"


def test_the_greeting_says_what_the_agent_is(agent: "Running") -> None:
    greeting = Fields(agent.peer().hello.fields)
    assert (greeting.number(Tag.VERSION), len(greeting.data(Tag.NONCE)), greeting.number(Tag.FRAME_LIMIT)) == (
        1,
        16,
        4 << 20,
    )
    assert greeting.text(Tag.IMPLEMENTATION) == agent.kind.split("-")[0]
    assert greeting.number(Tag.FACTS) & 1 == agent.kind.endswith("first-process")
    other = Fields(agent.peer().hello.fields)
    assert other.data(Tag.INSTANCE) == greeting.data(Tag.INSTANCE)
    assert other.data(Tag.NONCE) != greeting.data(Tag.NONCE)


def test_before_a_claim_nothing_but_joining_is_done(agent: "Running", agents: ModuleType) -> None:
    for kind in Kind:
        if kind not in {Kind.BIND, Kind.RESUME}:
            peer = agent.peer()
            peer.send(encode_frame(kind, b"", request=3))
            is_refused(peer, Status.NOT_BOUND)
    peer = agent.peer()
    fields = encode_fields(peer.joining())
    peer.send(peer.tagged(Kind.RESUME, fields))
    is_refused(peer, Status.NOT_BOUND)
    agents.bound_peer(agent)
    lives(agents, agent)


@pytest.mark.parametrize("trusted", [False, True])
def test_malformed_frames_are_refused(agent: "Running", agents: ModuleType, trusted: bool) -> None:  # noqa: FBT001
    agents.bound_peer(agent)
    cases = (
        (header(0), Status.MALFORMED),
        (header(23), Status.MALFORMED),
        (header(24, fields=1), Status.MALFORMED),
        (header(24, fields=0xFFFFFFFF), Status.MALFORMED),
        (header(40, flags=TAGGED), Status.MALFORMED),
        (header(24, flags=2), Status.MALFORMED),
        (header(24, flags=0x80), Status.MALFORMED),
        (header(0xFFFFFFFF), Status.TOO_LARGE),
        (header((4 << 20) + 1), Status.TOO_LARGE),
    )
    for data, status in cases:
        peer = agent.peer()
        if trusted:
            assert peer.resume().status == Status.OK
        peer.send(data)
        is_refused(peer, status)
        lives(agents, agent)


def test_a_stranger_cannot_make_the_agent_hold_much(agent: "Running", agents: ModuleType) -> None:
    peer = agent.peer()
    peer.send(header(4097, Kind.BIND))
    is_refused(peer, Status.TOO_LARGE)


def test_a_bad_bind_is_refused_and_claims_nothing(agent: "Running", agents: ModuleType) -> None:
    def bind(*changes: tuple[int, bytes | str | int], without: int = 0, bulk: bytes = b"", **frame: int) -> "Peer":
        peer = agent.peer()
        fields = [*peer.joining(), (Tag.KEY, agents.KEY)]
        fields = [field for field in fields if field[0] != without] + list(changes)
        peer.send(encode_frame(Kind.BIND, encode_fields(fields), bulk, request=1, **frame))
        return peer

    for tag in (Tag.CLAIM, Tag.KEY, Tag.NONCE, Tag.LEASE_MS):
        is_refused(bind(without=tag), Status.MALFORMED)
    is_refused(bind((Tag.KEY, agents.KEY)), Status.MALFORMED)
    is_refused(bind((Tag.JOB, "x")), Status.MALFORMED)
    is_refused(bind((Tag.KEY, b"short"), without=Tag.KEY), Status.MALFORMED)
    is_refused(bind((Tag.CLAIM, ""), without=Tag.CLAIM), Status.MALFORMED)
    is_refused(bind((Tag.CLAIM, "x" * 129), without=Tag.CLAIM), Status.MALFORMED)
    is_refused(bind((Tag.LEASE_MS, 0), without=Tag.LEASE_MS), Status.MALFORMED)
    is_refused(bind((Tag.LEASE_MS, b"\1"), without=Tag.LEASE_MS), Status.MALFORMED)
    is_refused(bind((Tag.LEASE_MS, 1 << 40), without=Tag.LEASE_MS), Status.MALFORMED)
    is_refused(bind(bulk=b"x"), Status.MALFORMED)
    is_refused(bind(counter=1), Status.BAD_COUNTER)
    assert bind((0x80, b"may be ignored")).frame().status == Status.OK


def test_frames_with_a_wrong_tag_are_refused(agent: "Running", agents: ModuleType) -> None:
    agents.bound_peer(agent)
    for where in ("tag", "fields", "header", "untagged", "key", "reflected"):
        peer = agent.peer()
        answer = peer.resume()
        assert answer.status == Status.OK
        frame = bytearray(peer.tagged(Kind.START, encode_fields([(Tag.JOB, "j"), (Tag.ARGUMENT, "/bin/true")])))
        if where == "untagged":
            frame = bytearray(encode_frame(Kind.PING, request=1))
        elif where == "key":
            frame = bytearray(encode_frame(Kind.PING, request=1, key=os.urandom(32), counter=1))
        elif where == "reflected":
            frame = bytearray(encode_frame(Kind.PING, request=1, key=peer.keys.from_agent, counter=1))
        else:
            frame[{"tag": -1, "fields": 30, "header": 9}[where]] ^= 1
        peer.send(bytes(frame))
        is_refused(peer, Status.BAD_TAG)
    peer = agent.peer()
    peer.resume()
    assert Fields(peer.ask(Kind.JOBS).fields).each(Tag.ENTRY) == [], "a refused frame did something"


def test_replayed_reordered_and_skipped_frames_are_refused(agent: "Running", agents: ModuleType) -> None:
    first = agents.bound_peer(agent)
    recorded = first.tagged(Kind.PING)
    first.send(recorded)
    assert first.frame().status == Status.OK
    first.send(recorded)
    is_refused(first, Status.BAD_COUNTER)
    for first_sent in (1, 2):
        peer = agent.peer()
        assert peer.resume().status == Status.OK
        frames = [peer.tagged(Kind.PING), peer.tagged(Kind.PING), peer.tagged(Kind.PING)]
        peer.send(frames[first_sent])
        is_refused(peer, Status.BAD_COUNTER)
    peer = agent.peer()
    assert peer.resume().status == Status.OK
    peer.send(recorded)
    is_refused(peer, Status.BAD_TAG)
    lives(agents, agent)


def test_a_recorded_join_opens_no_other_connection(agent: "Running", agents: ModuleType) -> None:
    agents.bound_peer(agent)
    peer = agent.peer()
    recorded = peer.tagged(Kind.RESUME, encode_fields(peer.joining()))
    forged = agent.peer()
    forged.send(recorded)
    is_refused(forged, Status.BAD_TAG)
    peer.sent = 0
    assert peer.resume().status == Status.OK


def test_cut_and_slow_frames_hold_nobody_up(agent: "Running", agents: ModuleType) -> None:
    agents.bound_peer(agent)
    peer = agent.peer()
    assert peer.resume().status == Status.OK
    whole = peer.tagged(Kind.PING)
    strangers = []
    for length in (0, 1, 23, 24, len(whole) - 1):
        stranger = agent.peer()
        stranger.send(whole[:length])
        strangers.append(stranger)
    for at in range(len(whole)):
        peer.send(whole[at : at + 1])
        time.sleep(0.001)
    assert peer.frame().status == Status.OK
    for stranger in strangers:
        assert stranger.keeps is not None
        stranger.keeps.close()
    assert peer.ask(Kind.PING).status == Status.OK


def test_strangers_crowd_nobody_out(agent: "Running", agents: ModuleType) -> None:
    holder = agents.bound_peer(agent)
    crowd = [agent.peer() for _ in range(60)]
    assert holder.ask(Kind.PING).status == Status.OK
    assert crowd[0].is_closed(), "the oldest stranger makes room"
    lives(agents, agent)


def test_fields_that_break_a_request_are_refused_and_the_connection_lives(agent: "Running", agents: ModuleType) -> None:
    peer = agents.bound_peer(agent)
    job, path, true = (Tag.JOB, "j"), (Tag.PATH, "/tmp"), (Tag.ARGUMENT, "/bin/true")  # noqa: S108
    stream = struct.Struct(">QQQ").pack
    cases: list[tuple[Kind, list[tuple[int, bytes | str | int]]]] = [
        (Kind.START, [job]),
        (Kind.START, [true]),
        (Kind.START, [job, job, true]),
        (Kind.START, [job, (Tag.ARGUMENT, b"a\0b")]),
        (Kind.START, [job, (Tag.ARGUMENT, b"")]),
        (Kind.START, [job, true, (Tag.VARIABLE, "no equals sign")]),
        (Kind.START, [job, true, (Tag.VARIABLE, "=x")]),
        (Kind.START, [job, true, (Tag.FOLDER, "relative")]),
        (Kind.START, [job, true, (Tag.UID, 1)]),
        (Kind.START, [job, true, (Tag.GROUP, 1)]),
        (Kind.START, [job, true, (Tag.END, 2)]),
        (Kind.START, [job, true, (Tag.END, b"\0")]),
        (Kind.START, [job, true, (Tag.STREAM, stream(0, 1, 0))]),
        (Kind.START, [job, true, (Tag.STREAM, stream(10, 1, 0))]),
        (Kind.START, [job, true, (Tag.STREAM, stream(3, 1 << 40, 0))]),
        (Kind.START, [job, true, (Tag.STREAM, stream(3, 1, 2))]),
        (Kind.START, [job, true, (Tag.LIMIT, struct.pack(">QQ", 99, 1))]),
        (Kind.START, [job, true, (0x7F, b"unknown")]),
        (Kind.START, [(Tag.JOB, "x" * 65), true]),
        (Kind.SIGNAL, [job, (Tag.SIGNAL, 65), (Tag.SERIAL, 1)]),
        (Kind.READ, [job, (Tag.DESCRIPTOR, 1), (Tag.OFFSET, 0)]),
        (Kind.GET, [(Tag.PATH, "relative"), (Tag.OFFSET, 0), (Tag.LENGTH, 1)]),
        (Kind.GET, [(Tag.PATH, b"/a\0b"), (Tag.OFFSET, 0), (Tag.LENGTH, 1)]),
        (Kind.GET, [(Tag.PATH, "/" + "x" * 4096), (Tag.OFFSET, 0), (Tag.LENGTH, 1)]),
        (Kind.GET, [path, (Tag.OFFSET, 1 << 63), (Tag.LENGTH, 1)]),
        (Kind.PUT, []),
        (Kind.PUT, [(Tag.DIGEST, b"short")]),
        (Kind.PUT, [(Tag.DIGEST, bytes(32)), (Tag.ENTRY, b"\1\0\0")]),
        (Kind.UPLOAD, [(Tag.UPLOAD, "u"), path, (Tag.MODE, 0o10000), (Tag.SIZE, 1)]),
        (Kind.STAT, [path, path]),
        (Kind.PING, [job]),
    ]
    for kind, fields in cases:
        answer = peer.ask(kind, *fields)
        assert (Status(answer.status), kind, fields) == (Status.MALFORMED, kind, fields)
    peer.send(peer.tagged(Kind.PING, b"\1\0\0\0"))
    assert peer.frame().status == Status.MALFORMED
    assert peer.ask(Kind.PING, bulk=b"bulk where none belongs").status == Status.MALFORMED
    for unknown in (0, 1, 2, 3, 6, 15, 41, 0x7F, 0x80, 0xFF):
        assert peer.ask(unknown).status == (Status.UNKNOWN_KIND)
    ignorable = (0x80, b"a field of the future")
    assert peer.ask(Kind.PING, ignorable, ignorable).status == Status.OK


def test_noise_never_ends_the_agent(agent: "Running", agents: ModuleType) -> None:
    agents.bound_peer(agent)
    coins = random.Random(1)
    for turn in range(150):
        peer = agent.peer()
        if turn % 2:
            assert peer.resume().status == Status.OK
        kind = coins.choice([*Kind, coins.randrange(256)])
        fields = coins.randbytes(coins.randrange(60))
        frame = bytearray(peer.tagged(kind, fields, coins.randbytes(coins.randrange(20))))
        for _ in range(coins.randrange(4)):
            frame[coins.randrange(len(frame))] = coins.randrange(256)
        peer.send(bytes(frame) + coins.randbytes(coins.randrange(40)))
        assert peer.keeps is not None
        peer.keeps.close()
    lives(agents, agent)


def test_who_does_not_read_answers_cannot_make_the_agent_hold_them_all(agent: "Running", agents: ModuleType) -> None:
    peer = agents.bound_peer(agent)
    assert peer.keeps is not None
    peer.keeps.setblocking(False)  # noqa: FBT003 -- positional only
    ask = [(Tag.PATH, agents.__file__), (Tag.OFFSET, 0), (Tag.LENGTH, 1 << 20)]
    blocked_since = None
    for _ in range(60_000):
        view = memoryview(peer.tagged(Kind.GET, encode_fields(ask)))
        while view and (blocked_since is None or time.monotonic() - blocked_since < 1.5):
            try:
                view = view[peer.keeps.send(view) :]
                blocked_since = None
            except BlockingIOError:
                blocked_since = blocked_since or time.monotonic()
                time.sleep(0.001)
        if view:
            break
    assert blocked_since is not None, "the agent took 60,000 requests whose answers nobody read"
    lives(agents, agent)
