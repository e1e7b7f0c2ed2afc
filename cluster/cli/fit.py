"""`fit`: train a mode."""

from __future__ import annotations

import click

from cluster.cli import arguments, training_run


@click.command()
@arguments.SPEC
@training_run.DEVICE
@training_run.ADDRESS
@arguments.QUIET
def fit(spec: str, device: str, address: str | None, quiet: bool) -> int:
    """Train one mode from scratch, for those who have no checkpoints yet.

    Seeded, and safe to interrupt: the same command goes on from the last checkpoint, and ends
    with the same bits. Leaves mode.safetensors in the spec's `out` folder.

    \b
    Examples:
      lossatlas fit fit.yaml
      lossatlas fit fit.yaml --device cuda
    """
    from pipeline.training import fit as fitting
    from pipeline.training.spec import read_fit

    prepared = fitting.prepare(read_fit(spec))
    train = training_run.training_function(fitting.fit, prepared, device, address)
    return training_run.run_training(train, "fit", spec, quiet)
