"""Ray for a render: a private one on loopback that ends with its driver, or an existing cluster."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.workers import processes

_OBJECT_STORE_BYTES = 200 * 2**20
_LONGEST_TEMP = 40
_CONNECT_SECONDS = 5.0
_PREFIX, _HELD = "lossatlas-", "held"
_YOUNG_SECONDS = 60.0


@contextlib.contextmanager
def private(workers: int, gpus: int, object_bytes: int) -> Iterator[Any]:
    """Start a private Ray, and end it afterwards; gives the `ray` module.

    Args:
        workers: CPU slots, one an actor.
        gpus: GPUs to use.
        object_bytes: size of the inputs that workers share.

    Raises:
        ClusterError: Ray does not start.
    """
    set_environment(None)
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    with _private_folder() as folder, processes.started_in(folder):
        ray = _ray()
        try:
            with _isolated(folder):
                ray.init(
                    "local",
                    num_cpus=workers,
                    num_gpus=gpus,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES + 2 * object_bytes,
                    log_to_driver=False,
                    configure_logging=False,
                    _temp_dir=str(folder / "ray"),
                )
        except SystemExit:  # Ray turns a SIGTERM that comes meanwhile into this
            processes.shut_down(ray)
            raise KeyboardInterrupt from None
        # Ray raises a plain Exception if it does not start in time on a busy machine.
        except Exception as error:
            processes.shut_down(ray)
            raise ClusterError(
                f"Ray does not start here ({_first_line(error)}); wanted room in "
                f"{folder.parent} and /dev/shm. Try --executor serial"
            ) from None
        try:
            yield ray
        finally:
            processes.shut_down(ray)


@contextlib.contextmanager
def joined(address: str) -> Iterator[Any]:
    """Connect to the Ray cluster at `address`, and disconnect afterwards; gives the `ray` module.

    Raises:
        ClusterError: there is no cluster there, or it refuses the connection.
    """
    _require_reachable(address)
    set_environment(address)
    with _private_folder() as folder:
        ray = _ray()
        try:
            with _isolated(folder):
                ray.init(address, log_to_driver=False, configure_logging=False)
        except Exception as error:
            ray.shutdown()
            raise ClusterError(
                f"--address {address}: no Ray cluster to join ({_first_line(error)}); wanted "
                "the host:port of a running head. Check it with ray status"
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()


def set_environment(address: str | None) -> None:
    """Set the variables that Ray reads once, when it is first imported.

    Call it before any file of the user is imported, which may import Ray.

    Args:
        address: of the cluster that will be joined; None for a private Ray.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # How Ray 2.60 treats actors without a GPU. If it is not set, Ray warns at every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None or address.rpartition(":")[0] in ("localhost", "127.0.0.1", "::1"):
        # Keeps a private Ray on loopback: plain ray.init() ignores `_node_ip_address`. A Ray that
        # is joined on this machine is looked for on loopback as well.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        # Ray waits twenty seconds for its own server by default, too little on a busy machine.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")


def _require_reachable(address: str) -> None:
    """Refuse an address at which no process listens; Ray itself would try for ten minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            return
    except (ValueError, OverflowError):
        found = "is no host:port"
    except OSError as error:
        found = f"cannot be reached ({error.strerror or error})"
    raise ClusterError(
        f"--address {address} {found}; wanted the host:port of a running Ray head, such as "
        "10.0.0.5:6379. Check it with ray status"
    )


def _ray() -> Any:
    import ray
    from ray._private import worker

    # With log_to_driver=False Ray still prints long messages about dead workers to stdout, between
    # our own lines. The event loop prints one line instead.
    worker.print_to_stdstream = lambda *_, **__: None
    return ray


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that only this user can read; deleted at the end."""
    parent = tempfile.gettempdir()
    # Ray's sockets are in this folder, and the path of a socket may have at most 107 bytes.
    if len(parent) > _LONGEST_TEMP and os.path.isdir("/tmp"):
        parent = "/tmp"
    _sweep(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    (folder / "empty").mkdir()
    with open(folder / _HELD, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Delete the folders of killed drivers: their locks ended with their processes."""
    for held in parent.glob(f"{_PREFIX}*/{_HELD}"):
        with contextlib.suppress(OSError):
            # A folder that is just being made has no lock yet.
            if time.time() - held.stat().st_mtime < _YOUNG_SECONDS:
                continue
            with open(held, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent, ignore_errors=True)


@contextlib.contextmanager
def _isolated(folder: Path) -> Iterator[None]:
    """Isolate the start of Ray: in an empty folder, without warnings, keeping signal handlers.

    Ray puts the driver's current folder and the folder of its script first on every worker's path,
    where a user's files could shadow any package. It also replaces signal handlers.
    """
    back, arguments = Path.cwd(), sys.argv[:]
    main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.argv[0] = str(folder / "empty" / "lossatlas")
    os.chdir(folder / "empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(back)
        sys.argv[:] = arguments
        if main_thread:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
