"""The public Python API of lossatlas.

A name is imported when it is first used: looking at a run takes neither torch nor Ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.api import connect as connect
    from cluster.api import fit as fit
    from cluster.api import plan as plan
    from cluster.api import render as render
    from cluster.api import resume as resume
    from cluster.api import status as status
    from pipeline.evaluation.evaluator import Evaluator as Evaluator
    from pipeline.geometry.directions import filter_normalise as filter_normalise
    from pipeline.geometry.directions import random_directions as random_directions
    from pipeline.geometry.plane import Plane as Plane
    from pipeline.geometry.plane import along_line as along_line
    from pipeline.geometry.plane import of_curve as of_curve
    from pipeline.geometry.plane import through_points as through_points
    from pipeline.spec import RenderSpec as RenderSpec
    from pipeline.spec import read as read_spec
    from pipeline.training.keep import keep as keep
    from renders.comparison import export_comparison as export_comparison
    from renders.data import export_data as export_data
    from renders.film.film import export_film as export_film
    from renders.film.frames import export_frames as export_frames
    from renders.map.tone import Tone as Tone
    from renders.map.tone import fit_tone as fit_tone
    from renders.poster import export_poster as export_poster
    from renders.relief.relief import Relief as Relief
    from renders.shading import shade as shade
    from renders.source.dataset import open_run as open
    from renders.web.webmap import export_map as export_map

_PLACES = {
    "Evaluator": "pipeline.evaluation.evaluator:Evaluator",
    "Plane": "pipeline.geometry.plane:Plane",
    "Relief": "renders.relief.relief:Relief",
    "RenderSpec": "pipeline.spec:RenderSpec",
    "Tone": "renders.map.tone:Tone",
    "along_line": "pipeline.geometry.plane:along_line",
    "connect": "cluster.api:connect",
    "export_comparison": "renders.comparison:export_comparison",
    "export_data": "renders.data:export_data",
    "export_film": "renders.film.film:export_film",
    "export_frames": "renders.film.frames:export_frames",
    "export_map": "renders.web.webmap:export_map",
    "export_poster": "renders.poster:export_poster",
    "filter_normalise": "pipeline.geometry.directions:filter_normalise",
    "fit": "cluster.api:fit",
    "fit_tone": "renders.map.tone:fit_tone",
    "keep": "pipeline.training.keep:keep",
    "of_curve": "pipeline.geometry.plane:of_curve",
    "open": "renders.source.dataset:open_run",
    "plan": "cluster.api:plan",
    "random_directions": "pipeline.geometry.directions:random_directions",
    "read_spec": "pipeline.spec:read",
    "render": "cluster.api:render",
    "resume": "cluster.api:resume",
    "shade": "renders.shading:shade",
    "status": "cluster.api:status",
    "through_points": "pipeline.geometry.plane:through_points",
}

__all__ = [
    "Evaluator", "Plane", "Relief", "RenderSpec", "Tone", "along_line", "connect",
    "export_comparison", "export_data", "export_film", "export_frames", "export_map",
    "export_poster", "filter_normalise", "fit", "fit_tone", "keep", "of_curve", "open", "plan",
    "random_directions", "read_spec", "render", "resume", "shade", "status", "through_points",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'lossatlas' has no attribute {name!r}")
    module, _, own = _PLACES[name].partition(":")
    found = getattr(importlib.import_module(module), own)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
