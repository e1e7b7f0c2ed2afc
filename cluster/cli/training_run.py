"""Running a training: what `fit` and `connect` have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cluster.terminal import print_line

if TYPE_CHECKING:
    from pipeline.training.session import Outcome, Progress

    Train = Callable[[Callable[[Progress], None] | None], Outcome]

DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What to compute on; auto takes a GPU where there is one.",
)
ADDRESS = click.option(
    "--address",
    metavar="HOST:PORT",
    help="Train on the Ray cluster there; `out` is then a folder of the machine that trains.",
)


def training_function(
    train: Callable[..., Outcome], prepared: Any, device: Any, address: str | None
) -> Train:
    """`train` with all its arguments but the progress function: here, or on a cluster."""
    from cluster.workers import devices

    if address is None:
        return lambda progress: train(prepared, devices.torch_device(device), progress)
    from cluster.driver.trainer import train_on

    return lambda progress: train_on(address, train, prepared, device, progress)


def run_training(
    train: Train, command: str, spec: str, quiet: bool, then: str | None = None
) -> int:
    """Train with progress on stderr; returns the exit code.

    Args:
        train: from `training_function`.
        command: its name, for what to type after ^C.
        spec: its file.
        quiet: print nothing but how to go on after ^C.
        then: printed at the end.
    """
    from cluster import shell
    from cluster.monitor.progress import TrainingProgress
    from cluster.workers.interrupts import EXIT_CODE, Interrupts

    with Interrupts():
        try:
            outcome = train(None if quiet else TrainingProgress(command))
        except KeyboardInterrupt:
            print_line(f"stopped; go on with: lossatlas {command} {shell.place(spec)}")
            return EXIT_CODE
    if not quiet:
        print_line(f"{outcome.result}: {outcome.steps:,} steps, last loss {outcome.losses[-1]:.4f}")
        if then is not None:
            print_line(then)
    return 0
