"""What Ray is told by the environment, and what it says to our stderr that is ours to say."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its future way, so that it does not warn of it
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ side writes to stderr whatever the level of logging in Python
}
_AS_BY_HAND = {
    "RAY_worker_niceness": "0",  # Ray's 15 would give every other program the CPU first
    "RAY_memory_monitor_refresh_ms": "0",  # our own limit is met first, and makes a row
}
_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_STDERR = 2


def of_own_cluster() -> dict[str, str]:
    """What Ray must be told of a cluster of this machine alone; a token, unless somebody has seen to that."""
    if any(name in os.environ for name in _TOKEN_VARIABLES):
        return _AS_BY_HAND
    # Ray would make one by itself and leave it in the home directory, where it changes every later ray start.
    return {**_AS_BY_HAND, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Within, the environment has these; what it had before stays."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextmanager
def unheard() -> Iterator[None]:
    """Within, nothing written to the process's stderr is seen, by C++ neither."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nowhere:
        stderr = os.dup(_STDERR)
        os.dup2(nowhere.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, _STDERR)
            os.close(stderr)
