"""`import`: a surface of another program as a store."""

from __future__ import annotations

import click

from cluster.cli import arguments
from cluster.terminal import print_json, print_line


@click.command("import")
@click.argument("surface", type=click.Path(dir_okay=False))
@click.argument("run", type=click.Path(), required=False)
@click.option(
    "--split", default="data", show_default=True, help="Of a loss that does not say of which."
)
@arguments.JSON
def import_(surface: str, run: str | None, split: str, as_json: bool) -> None:
    """Make a finished store of a SURFACE that another program computed.

    SURFACE is an .h5 file of the code of Li et al. (xcoordinates, ycoordinates, train_loss,
    train_acc and so on), or an .npz file with x, y and such arrays (y, x). The store RUN is
    runs/SURFACE.zarr by default. All pictures can be drawn from it, and nothing can be computed in
    it. Accuracies become the fraction misclassified; nothing is made up that the file does not say.

    \b
    Examples:
      lossatlas import surface.h5
      lossatlas import resnet56.h5 runs/resnet56.zarr
      lossatlas import mine.npz --split test --json
    """
    from cluster import shell
    from pipeline import imported
    from pipeline.url import store_url

    url = store_url(run or f"runs/{imported.run_name(surface)}.zarr")
    store, found = imported.import_surface(surface, url, split)
    if as_json:
        print_json(
            {
                "store": store.url,
                "width": store.width,
                "height": store.height,
                "quantities": list(store.quantities),
                "splits": list(store.splits),
                "left_out": list(found.left_out),
            }
        )
        return
    left = f"; left out: {', '.join(found.left_out)}" if found.left_out else ""
    print_line(
        f"{shell.place(store.url)}: {', '.join(store.quantities)} of {', '.join(store.splits)}, "
        f"{store.width:,} × {store.height:,} points{left}"
    )
