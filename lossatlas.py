"""The public Python API of lossatlas."""

from renders.map.tone import Tone as Tone
from renders.map.tone import fit_tone as fit_tone
from renders.shading import shade as shade
from renders.source.dataset import open_run as open

__all__ = ["Tone", "fit_tone", "open", "shade"]
