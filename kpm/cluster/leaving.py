"""Leave a cluster: delete the PowerConfigs of a namespace and wait until they are gone.

The operator holds each by a finalizer until the nodes have put back what was there before, so that
a PowerConfig that is gone means machines as they were. Whoever takes the operator away first leaves
them as they are.
"""

from collections.abc import Callable

from kpm.cluster.listing import every
from kpm.kube.api import Api, ApiError, Object
from kpm.kube.kinds import power

_LOOK = 1.0


def leave(
    api: Api,
    group: str,
    namespace: str,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    within: float,
    say: Callable[[str], None],
) -> bool:
    """Whether no PowerConfig is left after so many seconds.

    say: gets one line for whatever is waited for, when that changes. A server that does not answer
    is asked again; a kind that is not there has no objects.
    """
    configs = power(group, "powerconfigs", namespace)
    ends, told = clock() + within, ""
    while True:
        try:
            left = list(every(api, configs))
            for item in left:
                if not item["metadata"].get("deletionTimestamp"):
                    meta = item["metadata"]
                    api.delete(configs, meta["name"], uid=meta.get("uid"))
                    say(f"PowerConfig/{meta['name']} is deleted")
            line = "; ".join(map(_waited_for, left))
        except ApiError as failure:
            if failure.missing:
                return True
            left, line = [{}], str(failure)
        if not left:
            return True
        if line != told:
            say(line)
            told = line
        if clock() >= ends:
            return False
        sleep(_LOOK)


def _waited_for(config: Object) -> str:
    """What the operator says of a PowerConfig that is to go."""
    errors = (config.get("status") or {}).get("errors") or ["waiting for its nodes"]
    return f"PowerConfig/{config['metadata']['name']}: {'; '.join(map(str, errors))}"
