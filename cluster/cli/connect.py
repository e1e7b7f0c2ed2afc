"""`connect`: find a curve between two modes."""

from __future__ import annotations

import click

from cluster.cli import arguments, training_run


@click.command()
@arguments.SPEC
@training_run.DEVICE
@training_run.ADDRESS
@arguments.QUIET
def connect(spec: str, device: str, address: str | None, quiet: bool) -> int:
    """Find a curve of low loss between two modes, keeping the way there as frames.

    Trains the bends of a Bézier curve or chain (Garipov et al. 2018). Safe to interrupt: the same
    command goes on from the last checkpoint, and ends with the same bits. Leaves
    curve.safetensors and frames/ in the spec's `out` folder; `plane: {kind: curve, weights:
    [start, end], frames: OUT/frames}` renders them as a film.

    \b
    Examples:
      lossatlas connect connect.yaml
      lossatlas connect connect.yaml --address 10.0.0.5:6379
    """
    from cluster import shell
    from pipeline.training import connect as connecting
    from pipeline.training.spec import read_connect

    prepared = connecting.prepare(read_connect(spec))
    train = training_run.training_function(connecting.connect, prepared, device, address)
    return training_run.run_training(
        train, "connect", spec, quiet, then=f"next: lossatlas curve {shell.place(spec)}"
    )
