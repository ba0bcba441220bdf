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

    _forgive()
    # one file, such as the zipapp, under the names that kubectl looks for
    called = sys.argv[0].rpartition("/")[2]
    if called == "kubectl-power":
        kubectl_power()
    if called == "kubectl_complete-power":
        kubectl_complete_power()
        return
    from kpm.cli import cli

    cli(prog_name="kpm")


def kubectl_power() -> None:
    """Run `kubectl power`."""
    from kpm.process.ending import unblock

    unblock()
    _forgive()
    from kpm.cli import power

    power(prog_name="kubectl power")


def kubectl_complete_power() -> None:
    """Print what may come next on the line of `kubectl power`, as kubectl asks its plugins: a line
    each, at the end what the shell is to do.
    """
    import sys

    from click.shell_completion import ShellComplete

    from kpm.cli import power

    *words, last = sys.argv[1:] or [""]
    found = ShellComplete(power, {}, "kubectl power", "_").get_completions(words, last)
    files = any(item.type in ("file", "dir") for item in found)
    plain = [item.value for item in found if item.type == "plain"]
    # of cobra: as the shell does by itself; no file names
    sys.stdout.write("".join(f"{line}\n" for line in (*plain, ":0" if files else ":4")))


def _forgive() -> None:
    """A terminal that knows few letters is no reason to fail."""
    import sys

    from kpm.process.letters import NAME

    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=NAME)


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
