"""Floors of figures that are CPU time: work that does not change as we do.

Figure and floor are measured by turns, so that a noisy machine is noisy for both, and told by their
fastest runs.
"""

import gc
import math
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen


@frozen
class Piece:
    """A value as the planner's are: frozen, compared and replaced as a whole."""

    number: int
    low: int | None = None
    high: int | None = None
    words: tuple[str, ...] = ()
    group: frozenset[int] = frozenset()


def usual_work() -> int:
    """A millisecond or so of what pure Python is spent on here: values replaced, grouped by key,
    sorted, gathered in sets.
    """
    pieces = [Piece(number, words=("a", "b")) for number in range(256)]
    pieces = [evolve(piece, low=piece.number * 7 % 97, high=3000) for piece in pieces]
    groups: dict[tuple[int | None, int | None], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.low, piece.high), []).append(piece)
    chosen = [
        evolve(piece, group=frozenset(other.number for other in members))
        for _, members in sorted(groups.items())
        for piece in members
    ]
    chosen.sort(key=lambda piece: (len(piece.group), piece.words, -piece.number))
    return len({(piece.low, piece.group) for piece in chosen})


def by_turns(
    works: Sequence[Callable[[], object]],
    runs: int,
    clock: Callable[[], float] = time.thread_time,
) -> list[float]:
    """Seconds of the fastest run of each, by a clock: CPU time of this thread."""
    best = [math.inf] * len(works)
    gc.disable()
    try:
        for _ in range(runs):
            for at, work in enumerate(works):
                start = clock()
                work()
                best[at] = min(best[at], clock() - start)
    finally:
        gc.enable()
    return best


def children_time() -> float:
    """CPU seconds of all processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start(command: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
    """Run a program to its end."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
