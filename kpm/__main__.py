"""The command `kpm`."""


def main() -> None:
    """Run the command line."""
    from kpm.cli import cli

    cli(prog_name="kpm")


if __name__ == "__main__":
    main()
