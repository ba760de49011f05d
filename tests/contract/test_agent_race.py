"""Two drivers that claim the same agent at the same time, ten thousand times: exactly one has it, and both know who."""

import os
import socket
import subprocess
import threading
from pathlib import Path

from envfarm.sandbox.agent.programs import agent_program
from envfarm.sandbox.client.frames import Fields, Frame, FrameReader, Kind, Status, Tag, encode_fields, encode_frame

RACES = 10_000
DRIVERS = ("left", "right")


def next_frame(stream: socket.socket, reader: FrameReader) -> Frame:
    data = b""
    while True:
        for frame in reader.add(data):
            return frame
        data = stream.recv(65536)
        assert data


def claim_of(name: str, nonce: bytes) -> bytes:
    fields: list[tuple[int, bytes | str | int]] = [(Tag.CLAIM, name), (Tag.NONCE, nonce), (Tag.LEASE_MS, 60_000)]
    return encode_frame(Kind.BIND, encode_fields([*fields, (Tag.KEY, name[:1].encode() * 32)]))


class Drivers:
    """Two threads, each of which claims the agent of every race as its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._barrier = threading.Barrier(len(DRIVERS) + 1)
        self.answers: dict[str, tuple[Status, str]] = {}
        self._ended = False
        self._threads = [threading.Thread(target=self._drive, args=(name,)) for name in DRIVERS]
        for thread in self._threads:
            thread.start()

    def race(self) -> dict[str, tuple[Status, str]]:
        self.answers = {}
        for _ in range(3):  # they connect, they claim, they have answers
            self._barrier.wait(60)
        return self.answers

    def end(self) -> None:
        self._ended = True
        self._barrier.abort()
        for thread in self._threads:
            thread.join()

    def _drive(self, name: str) -> None:
        bind = claim_of(name, os.urandom(16))
        try:
            while True:
                self._barrier.wait()
                reader = FrameReader()
                with socket.socket(socket.AF_UNIX) as stream:
                    stream.settimeout(60)
                    stream.connect(self._path)
                    next_frame(stream, reader)
                    self._barrier.wait(60)
                    stream.sendall(bind)
                    answer = next_frame(stream, reader)
                    self.answers[name] = Status(answer.status), Fields(answer.fields).text(Tag.CLAIM)
                    self._barrier.wait(60)
        except threading.BrokenBarrierError:
            assert self._ended


def test_of_two_claims_exactly_one_wins_ten_thousand_times(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    wins = dict.fromkeys(DRIVERS, 0)
    drivers = Drivers(path)
    try:
        for _ in range(RACES):
            words = [str(agent_program()), "--unix", path]
            with subprocess.Popen(words, stdout=subprocess.PIPE) as agent:
                assert agent.stdout is not None
                assert agent.stdout.readline() == b"ready unix\n"
                answers = drivers.race()
                agent.kill()
            Path(path).unlink()
            (winner,) = [name for name, (status, _) in answers.items() if status is Status.OK]
            (loser,) = set(DRIVERS) - {winner}
            assert answers[loser] == (Status.HELD, winner)
            wins[winner] += 1
    finally:
        drivers.end()
    assert min(wins.values()) > 0, "it was no race"
