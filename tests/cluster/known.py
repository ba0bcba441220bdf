"""What the product does not do yet: tests that say what is right and may fail. Remove a line with the fault."""

_DEAF = "told to end before its handler is set, the first process of a container ignores it until the grace period is over"
_UNUSABLE = "a node whose kubelet hands out no CPUs still offers the profile as an extended resource"

KNOWN: dict[str, str] = {
    **{f"test_an_agent_ends_at_every_moment_of_its_start[{moment}]": _DEAF for moment in ("0", "0.1", "0.3", "0.6", "1")},
    "test_an_agent_whose_pod_is_deleted_at_its_start_goes_soon": _DEAF,
    "test_a_kubelet_that_gives_no_cpus": _UNUSABLE,
}
