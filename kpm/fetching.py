"""A short answer of an HTTP server that nobody vouches for."""

import time
import urllib.request
from typing import Any

_TIMEOUT = 5.0
_LONGEST_WAIT = 15.0
_CHUNK = 4096


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would let the server choose what is asked next."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch(url: str, most: int) -> bytes:
    """At most so many bytes of an answer, without redirects, proxies or credentials. Errors: OSError, ValueError, HTTPException."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("is no http address")
    request = urllib.request.Request(url, headers={"Accept": "text/plain, text/csv"})  # noqa: S310  # looked at above
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    found = b""
    until = time.monotonic() + _LONGEST_WAIT
    with opener.open(request, timeout=_TIMEOUT) as answer:
        while len(found) < most and (more := answer.read1(min(_CHUNK, most - len(found)))):
            found += more
            if time.monotonic() > until:
                raise TimeoutError("the answer takes too long")
    return found
