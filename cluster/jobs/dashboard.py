"""The connection to a Ray cluster from outside: its dashboard's address, the token, the errors.

The Jobs API fails with many kinds of exceptions. This module turns each into one line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cluster.errors import ClusterError
from pipeline.errors import one_line

_CONNECT_SECONDS = 5.0
_CURE = "wanted the dashboard of a running Ray head. Check the address, the tunnel and the head"

# The answers of a dashboard, or of a proxy before it, if no head is behind them.
_BROKEN = re.compile(r"status code 50[234]|status code 500.*(aiohttp|ClientConnector|Connection)")

Found = Literal["silent", "no agent", "taken", "refused"]


class DashboardError(ClusterError):
    """A dashboard that cannot be used.

    `silent`: it may answer again. `no agent`: its agent is starting. `taken`: another job has the
    id. `refused`: another try would be refused too."""

    def __init__(self, message: str, found: Found = "refused") -> None:
        super().__init__(message)
        self.found = found


def connect(address: str) -> tuple[str, Any]:
    """The plain address, and Ray's client of the Jobs API there.

    Every request has the user's token in it. So only the user gives addresses
    (`cluster.cli.find_job`), and redirects are not followed.

    Args:
        address: `http://HOST:8265`.

    Raises:
        DashboardError: nothing is there, it is no Ray cluster, or it does not let us in.
    """
    plain = checked(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray would silently use either instead of the requested address.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    from ray.job_submission import JobSubmissionClient

    # It logs the end of every connection.
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.CRITICAL)

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **named: Any) -> Any:
            response = super()._do_request(method, endpoint, allow_redirects=False, **named)
            if response.is_redirect:
                raise _elsewhere(plain)
            return response

    token = _token()
    with asking(plain):
        return plain, Client(plain, headers={"Authorization": f"Bearer {token}"} if token else {})


def checked(address: str) -> str:
    """The address without a path, after a check that a process listens there.

    Raises:
        DashboardError: it is no such address, has a password in it, or no process listens there.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, or too large
        parts, host, port = urlsplit(""), None, None
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if host else address
    if "@" in address:
        shown = plain if host else "…"
        raise DashboardError(
            f"--address {shown} was given with a password in it; wanted the plain address. Put "
            "the token into RAY_AUTH_TOKEN"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise DashboardError(
            f"--address {plain} is no Jobs API; wanted http://HOST:8265, the dashboard of a "
            "running Ray head"
        )
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise DashboardError(
            f"{plain} cannot be reached ({error.strerror or error}); {_CURE}", "silent"
        ) from None
    return plain


@contextlib.contextmanager
def asking(address: str, job: str = "") -> Iterator[None]:
    """Turn every error of the Jobs API at `address` into one line.

    Args:
        address: from `checked`.
        job: the id of the requested job, if any.

    Raises:
        DashboardError: instead of the errors of Ray and requests.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise _locked(address) from None
    except (requests.exceptions.JSONDecodeError, KeyError, TypeError, ValueError):
        raise _stranger(address) from None  # JSON, or none, of another shape than Ray's
    except (requests.exceptions.RequestException, ConnectionError) as error:
        response = getattr(error, "response", None)
        what = type(error).__name__ if response is None else f"HTTP {response.status_code}"
        raise DashboardError(f"{address} cannot be reached ({what}); {_CURE}", "silent") from None
    except RuntimeError as error:
        raise _refused(address, one_line(error), job) from None


def _locked(address: str) -> DashboardError:
    if not _token():
        return DashboardError(
            f"{address} wants a token and got none; wanted the cluster's own. Set RAY_AUTH_TOKEN, "
            "or RAY_AUTH_TOKEN_PATH to a file that holds it"
        )
    return DashboardError(
        f"{address} refuses the token it got; wanted the cluster's own. Check RAY_AUTH_TOKEN, "
        "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    )


def _elsewhere(address: str) -> DashboardError:
    return DashboardError(
        f"{address} sends us to another address, where the token must not go; wanted the dashboard "
        "itself. Give --address that one"
    )


def _stranger(address: str) -> DashboardError:
    return DashboardError(f"{address} answers, but is no Ray dashboard; wanted http://HOST:8265")


def _refused(address: str, text: str, job: str) -> DashboardError:
    if job and ("404" in text or "does not exist" in text):
        return DashboardError(
            f"{address} knows no job {job}; wanted the id of one of its jobs. See lossatlas list "
            f"--address {shlex.quote(address)}"
        )
    if "No available agent" in text:
        return DashboardError(
            f"{address}: no agent answers that could start a job; wanted one on the head. Wait "
            "for the head to come up, or see dashboard_agent.log there (its port may be taken)",
            "no agent",
        )
    if _BROKEN.search(text):  # a head that is going down, or up; or a proxy before one that is gone
        return DashboardError(
            f"{address} cannot be reached (its agent does not answer); {_CURE}", "silent"
        )
    if "Version check returned" in text:
        return _stranger(address)
    if "already exists" in text:
        return DashboardError(f"{address} has a job of that name already", "taken")
    return DashboardError(f"{address} does not do that: {text[:300]}")


def _token() -> str:
    """The user's token, from the places that Ray reads; empty if there is none."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if token:
        return token.strip()
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
