"""The command `kpm`."""

import os
import sys


def main() -> None:
    """Run the command line. A closed pipe and an interrupt end it quietly, as a shell expects."""
    from kpm.cli import cli

    try:
        cli(prog_name="kpm")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
