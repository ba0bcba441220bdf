"""A terminal that shows pictures until somebody leaves: q ends it, s sorts, / filters."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import evolve
from rich.console import Console
from rich.live import Live
from rich.text import Text

from kpm.live.picture import Picture, View, lines
from kpm.process.errors import InputError

_HELP = "q quit   s sort   / filter"
_ESCAPE, _ENTER, _BACK = "\x1b", ("\r", "\n"), ("\x7f", "\b")


def follow(look: Callable[[], Picture], seconds: float) -> None:
    """Show one picture after the other. A look that fails is told, and tried again."""
    console = Console(markup=False, highlight=False)
    view, typing = View(), False
    picture = look()
    with _raw(), Live(console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic() + min(seconds, 0.5)  # shares need a second look
        while True:
            live.update(_page(picture, view, console.height, typing=typing), refresh=True)
            for key in _keys(max(due - time.monotonic(), 0.0)):
                if not typing and key in ("q", "\x03"):
                    return
                view, typing = pressed(view, key, typing=typing)
            if time.monotonic() >= due:
                due = time.monotonic() + seconds
                try:
                    picture = look()
                except InputError as failure:
                    picture = evolve(picture, notes=(str(failure),))


def pressed(view: View, key: str, *, typing: bool) -> tuple[View, bool]:
    """How one looks after a key, and whether letters of a filter are being typed."""
    if typing:
        if key in _ENTER:
            return view, False
        if key == _ESCAPE:
            return evolve(view, needle=""), False
        if key in _BACK:
            return evolve(view, needle=view.needle[:-1]), True
        return (evolve(view, needle=(view.needle + key)[:60]) if key.isprintable() else view), True
    if key == "s":
        return view.next_sort(), False
    if key == "/":
        return evolve(view, needle=""), True
    return view, False


def _page(picture: Picture, view: View, height: int, *, typing: bool) -> Text:
    room = height - 4 - len(picture.notes) - min(len(picture.pods), 12)
    body = lines(picture, view, room)
    filtered = f"   filter: {view.needle}{'_' if typing else ''}" if view.needle or typing else ""
    return Text("\n".join([*body[: height - 1], f"{_HELP}   by {view.sort}{filtered}"]))


@contextmanager
def _raw() -> Iterator[None]:
    """Keys come one by one, and are not shown."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _keys(seconds: float) -> str:
    """The letters that were typed within so many seconds; nothing where none were."""
    descriptor = sys.stdin.fileno()
    ready, _, _ = select.select([descriptor], [], [], seconds)
    return os.read(descriptor, 64).decode("utf-8", "replace") if ready else ""
