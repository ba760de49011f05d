"""Threads that share a call into the kernels: those of torch's own operations, where they can be found.

Between two operations torch's threads wait by spinning: others beside them would have to share their cores. So calls
go through the same library of OpenMP. Where torch has another one, there are threads of our own.
"""

import ctypes
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch

from envfarm.model.kernels.training_structures import Team as TeamStructure
from envfarm.model.kernels.workers import Workers

_MAPPED = Path("/proc/self/maps")


class Team(Protocol):
    """Threads that share calls.

    Attributes:
        threads: How many.
    """

    threads: int

    def run(self, call: Any, structure: ctypes.Structure, bounds: Sequence[int], memories: Sequence[int] = ()) -> None:
        """Do the parts of a call.

        Args:
            call: A function of the library.
            structure: What it takes.
            bounds: Where each part begins, and where the last one ends; at most as many parts as threads.
            memories: Addresses, one for each thread, where the call wants one.
        """


class OpenMPTeam:
    """The threads of torch."""

    def __init__(self, library: ctypes.CDLL, openmp: ctypes.CDLL, threads: int) -> None:
        self.threads = threads
        self._parallel = openmp.GOMP_parallel
        self._parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._parallel.restype = None
        self._work = ctypes.cast(library.envfarm_work, ctypes.c_void_p)
        self._number = ctypes.cast(openmp.omp_get_thread_num, ctypes.c_void_p)
        self._count = ctypes.cast(openmp.omp_get_num_threads, ctypes.c_void_p)

    def run(self, call: Any, structure: ctypes.Structure, bounds: Sequence[int], memories: Sequence[int] = ()) -> None:
        """Do the parts of a call; see `Team.run`."""
        if len(bounds) == 2:  # noqa: PLR2004 -- one part
            call(ctypes.byref(structure), *bounds, *memories[:1])
            return
        array = (ctypes.c_void_p * len(memories))(*memories)
        team = TeamStructure(
            call=ctypes.cast(call, ctypes.c_void_p),
            structure=ctypes.addressof(structure),
            bounds=ctypes.addressof(kept := (ctypes.c_int64 * len(bounds))(*bounds)),
            memories=ctypes.addressof(array) if memories else None,
            thread_number=self._number,
            thread_count=self._count,
            parts=len(kept) - 1,
        )
        self._parallel(self._work, ctypes.byref(team), self.threads, 0)


class WorkersTeam:
    """Threads of our own."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._workers = Workers(threads)

    def run(self, call: Any, structure: ctypes.Structure, bounds: Sequence[int], memories: Sequence[int] = ()) -> None:
        """Do the parts of a call; see `Team.run`."""
        address, jobs = ctypes.byref(structure), []
        for part, (first, last) in enumerate(pairwise(bounds)):
            jobs.append(partial(call, address, first, last, *memories[part : part + 1]))
        self._workers.run(jobs)


def make_team(library: ctypes.CDLL, threads: int) -> Team:
    """Return so many threads: torch's where its OpenMP is found, else our own."""
    openmp = find_openmp()
    return WorkersTeam(threads) if openmp is None else OpenMPTeam(library, openmp, threads)


def find_openmp() -> ctypes.CDLL | None:
    """Return the library of OpenMP that lies beside torch and is in use; None if there is none."""
    folder = Path(torch.__file__).parent.parent
    try:
        lines = _MAPPED.read_text(errors="replace").splitlines()
        paths = {Path(line.split(maxsplit=5)[-1]) for line in lines if "libgomp" in line}
        beside = [ctypes.CDLL(str(path)) for path in sorted(paths) if path.is_relative_to(folder)]
    except OSError:
        return None
    return next((openmp for openmp in beside if hasattr(openmp, "GOMP_parallel")), None)
