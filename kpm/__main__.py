"""The command `kpm`."""

ENDLESS = ("agent", "operator", "scaler", "powercap", "helper")


def main() -> None:
    """Run the command line.

    Verbs that run until they are told to end can be told so from here on.
    """
    import sys

    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    from kpm.process.ending import listen, unblock

    (listen if verb in ENDLESS else unblock)()
    # it loads no library, the command line's among them
    if verb == "helper" and (plain := _pairs(sys.argv[2:])) is not None:
        from kpm.helper.server import run

        run(**plain)

    from kpm.cli import cli
    from kpm.process.letters import NAME

    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            # a terminal that knows few letters is no reason to fail
            stream.reconfigure(errors=NAME)
    cli(prog_name="kpm")


def _pairs(words: list[str]) -> dict[str, str] | None:
    """The helper's options as its DaemonSet gives them; None for anything else, which the command
    line knows how to answer.
    """
    names = {"--sysfs": "sysfs", "--socket": "path", "--nri": "nri"}
    given = dict(zip(words[::2], words[1::2], strict=False))
    whole = {"--sysfs", "--socket"} <= given.keys() <= names.keys() and len(words) == 2 * len(given)
    return {names[word]: value for word, value in given.items()} if whole else None


if __name__ == "__main__":
    main()
