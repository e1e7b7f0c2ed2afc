"""The tone is monotone, fixed, and the same as Datashader's shading against a span."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renders.colour import ColourError, luminance, palette_colours, rgb, to_encoded, to_linear
from renders.map.tone import How, Tone, ToneError, fit_tone

VALUES = np.exp(np.random.default_rng(0).normal(0, 1.2, 5000))


def shaded(tone: Tone, values: np.ndarray) -> np.ndarray:
    """What the kernel does, in plain numpy: the nearest entry of the look-up table."""
    lut = tone.lut()
    lo, hi = tone.span
    part = np.clip((tone.to_space(values) - lo) / (hi - lo), 0, 1)
    return lut[np.rint(part * (len(lut) - 1)).astype(int)]


@pytest.mark.parametrize("how", ["linear", "log"])
def test_it_shades_as_datashader_does(how: How) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datashader.transfer_functions as tf
        import xarray
    # Datashader's log is log(1 + value − low): the true logarithm exactly when low is 1.
    values = np.exp(np.random.default_rng(1).uniform(-0.5, 3.5, (40, 50)))
    palette = ["#102040", "#a03050", "#f0d060", "#ffffff"]
    tone = fit_tone([values], how=how, limits=(1.0, 20.0), palette=palette)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = tf.shade(xarray.DataArray(values), cmap=palette, how=how, span=(1.0, 20.0))
    reference = np.asarray(image).view(np.uint8).reshape(40, 50, 4)[..., :3].astype(float)
    inside = (values >= 1) & (values <= 20)
    assert np.abs(np.rint(shaded(tone, values)) - reference)[inside].max() <= 1.0


@pytest.mark.parametrize("how", ["linear", "log", "equalised"])
def test_positions_rise_with_values(how: How) -> None:
    tone = fit_tone([VALUES], how=how)
    position = tone.position(np.sort(VALUES))
    assert (np.diff(position) >= 0).all()
    assert position[0] == 0
    assert position[-1] == 1
    for at in (0.1, 0.5, 0.9):
        assert tone.position(tone.value_at(at)) == pytest.approx(at, abs=1e-6)


def test_equalising_spreads_values_more_evenly_than_a_logarithm() -> None:
    skewed = np.exp(np.random.default_rng(2).normal(0, 0.15, 4000) + 3 * (np.arange(4000) < 200))
    spread = {}
    for how in ("log", "equalised"):
        shares, _ = np.histogram(fit_tone([skewed], how=how).position(skewed), 8, (0, 1))
        spread[how] = shares.std()
    assert spread["equalised"] < 0.6 * spread["log"]


def test_the_fit_sees_every_slab_and_only_finite_values() -> None:
    slabs = [np.array([1.0, np.nan, 2.0]), np.array([np.inf, 8.0]), np.array([])]
    tone = fit_tone(slabs, how="linear", clip=(0, 100))
    assert (tone.low, tone.high) == (1.0, 8.0)


def test_zero_and_negative_values_survive_a_logarithm() -> None:
    tone = fit_tone([np.array([0.0, 0.5, 4.0])], how="log", clip=(0, 100))
    assert np.isfinite(tone.to_space([0.0, -1.0])).all()
    assert tone.position(0.0) == 0


def test_a_default_tone_is_linear_where_a_value_is_0_or_less() -> None:
    plain = fit_tone([VALUES])
    assert (plain.how, plain.clipped) == ("log", 0)
    assert "clipped" not in plain.to_dict()
    # One value of another frame is enough, though not every value is looked at for the fit.
    for odd in (0.0, -3.0):
        frames = [VALUES, np.array([5.0, odd, np.nan, -np.inf])]
        assert fit_tone(frames, stride=1000).how == "linear"
        assert fit_tone(frames, how="equalised", stride=1000).space == "linear"
        forced = fit_tone(frames, how="log", stride=1000)
        assert (forced.how, forced.clipped) == ("log", 1)
        assert Tone.from_dict(json.loads(json.dumps(forced.to_dict()))) == forced
    assert fit_tone([-VALUES]).how == "linear"
    assert fit_tone([np.zeros(5)]).position(0.0) == 0.5


def test_a_constant_surface_has_the_middle_colour() -> None:
    for how in ("linear", "log"):
        assert fit_tone([np.full(9, 2.3)], how=how).position(2.3) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("how", ["linear", "log", "equalised"])
def test_it_survives_json(how: How) -> None:
    tone = fit_tone([VALUES], how=how)
    assert Tone.from_dict(json.loads(json.dumps(tone.to_dict()))) == tone


def test_errors_name_the_cure() -> None:
    with pytest.raises(ToneError, match="diverged everywhere"):
        fit_tone([np.full(4, np.nan)])
    with pytest.raises(ToneError, match="no tile is finished"):
        fit_tone([])
    with pytest.raises(ToneError, match="choose tone linear"):
        fit_tone([np.array([-1.0, 0.0])], how="log")
    with pytest.raises(ToneError, match="first below the second"):
        fit_tone([VALUES], limits=(3.0, 2.0))
    with pytest.raises(ToneError, match="percent"):
        fit_tone([VALUES], clip=(50, 20))
    with pytest.raises(ToneError, match="keys"):
        Tone.from_dict({"how": "log"})
    with pytest.raises(ColourError, match="'dusk'"):
        palette_colours("dusc")
    with pytest.raises(ColourError, match="six hex digits"):
        palette_colours(["#123456", "red"])
    with pytest.raises(ColourError, match="at least two"):
        palette_colours(["#123456"])


def test_matplotlibs_palettes_are_known_too() -> None:
    assert palette_colours("viridis")[0] == "#440154"
    assert palette_colours("viridis")[-1] == palette_colours("viridis_r")[0] == "#fde725"
    assert len(palette_colours("viridis")) == 256
    with pytest.raises(ColourError, match="nearest name is 'viridis'"):
        palette_colours("viridiss")


def test_reversing_a_palette_reverses_it() -> None:
    for name in ("dusk", "gouldian", "safe"):
        assert palette_colours(f"{name}_r") == palette_colours(name)[::-1]


def test_the_default_palette_rises_in_lightness() -> None:
    lightness = [luminance(rgb(c)) for c in palette_colours("dusk")]
    assert (np.diff(lightness) > -0.004).all()
    assert lightness[-1] - lightness[0] > 0.6


@settings(max_examples=50)
@given(st.lists(st.floats(0, 255), min_size=3, max_size=3))
def test_the_transfer_curve_inverts(colour: list[float]) -> None:
    np.testing.assert_allclose(to_encoded(to_linear(colour)), colour, atol=2e-4)
