"""Run a command with no capabilities but some, as a container has them: with_only.py NUMBERS
COMMAND…

NUMBERS: capability numbers, by commas, or "none". What leaves the bounding set a program of root's
never has.
"""

import ctypes
import os
import sys

_DROP_BOUNDING, _LAST = 24, 40

kept = set() if sys.argv[1] == "none" else {int(word) for word in sys.argv[1].split(",")}
libc = ctypes.CDLL(None)
for number in set(range(_LAST + 1)) - kept:
    libc.prctl(_DROP_BOUNDING, number, 0, 0, 0)
os.execvp(sys.argv[2], sys.argv[2:])
