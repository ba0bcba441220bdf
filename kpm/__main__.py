"""The command `kpm`."""


def main() -> None:
    """Run the command line."""
    import sys

    from kpm.cli import cli

    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows few letters is no reason to fail
    cli(prog_name="kpm")


if __name__ == "__main__":
    main()
