"""What the product does not do yet: tests that say what is right and may fail. Remove a line with the fault."""

_UNUSABLE = "a node whose kubelet hands out no CPUs still offers the profile as an extended resource"

KNOWN: dict[str, str] = {
    "test_a_kubelet_that_gives_no_cpus": _UNUSABLE,
}
