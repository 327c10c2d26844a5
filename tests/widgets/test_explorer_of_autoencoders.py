"""The explorer over autoencoders: the slider sets the code length, and the cards show errors and pictures."""

import re

import numpy as np
import pytest
import torch
from toys import assert_same, state_of
from widgets.explorers import STEPS, SVG, as_strip, measured, strips, svg, words

from dylora_kit.baselines.autoencoder import Autoencoder, pca
from dylora_kit.tasks import digits
from dylora_kit.widgets.live_model import STRIP
from dylora_kit.widgets.rank_explorer import RankExplorer


def test_the_slider_sets_the_code_length_of_every_live_autoencoder(
    with_pca: RankExplorer, autoencoder: Autoencoder
) -> None:
    rival = with_pca._live["PCA"].handle
    assert with_pca.slider.description == "Code length"
    assert with_pca.slider.max == 4
    for b in (3, 1):
        with_pca.slider.value = b
        assert autoencoder.code.rank == rival.rank == b
        assert svg(with_pca).get("data-rank") == str(b)
        assert f"{2 * b * 64:,} code parameters, {25 * b} % of code length 4" in with_pca.note.value


def test_the_errors_are_those_of_the_models(
    with_pca: RankExplorer, autoencoder: Autoencoder, pixels: digits.Pixels
) -> None:
    ours, best = measured(autoencoder.code, pixels, "error"), measured(pca(pixels, 4).code, pixels, "error")
    assert with_pca.values["nested dropout"] == ours
    assert with_pca.values["PCA"] == pytest.approx(best)
    with_pca.slider.value = 2
    assert words(with_pca, "dk-value") == [f"{100 * ours[2]:.0f} %", f"{100 * best[2]:.0f} %"]
    assert with_pca.summary() == (
        f"Code length 2 of 4: nested dropout has an error of {100 * ours[2]:.0f} %; "
        f"PCA has an error of {100 * best[2]:.0f} %."
    )
    assert "Error by code length, in %" in words(with_pca, "head")


@pytest.mark.parametrize("b", [1, 4])
def test_the_reconstructions_are_drawn_from_the_first_b_units(
    with_pca: RankExplorer, autoencoder: Autoencoder, pixels: digits.Pixels, b: int
) -> None:
    with_pca.slider.value = b
    x = pixels.pixel_values[:STRIP]
    ours = x @ autoencoder.encoder[:b].detach().T @ autoencoder.decoder[:, :b].detach().T
    rival = with_pca._live["PCA"].handle.model
    best = x @ rival.encoder[:b].detach().T @ rival.decoder[:, :b].detach().T
    drawn = strips(with_pca)
    assert len(drawn) == 3
    for strip, rows in zip(drawn, (x, ours, best), strict=True):
        assert strip.shape == (8, 9 * STRIP - 1)
        np.testing.assert_allclose(strip, as_strip(pixels, rows), atol=2.5 / 255)
    assert words(with_pca, "end")[-3:] == ["real", "nested dropout", "PCA"]
    assert any(text.endswith({1: "from 1 number", 4: "from 4 numbers"}[b]) for text in words(with_pca, "soft"))


def test_an_autoencoder_trains_and_goes_back_as_adapters_do(
    with_pca: RankExplorer, autoencoder: Autoencoder, pixels: digits.Pixels
) -> None:
    rival = with_pca._live["PCA"].handle.model
    first, of_rival, early = state_of(autoencoder), state_of(rival), with_pca.picture.value
    values = with_pca.values
    with_pca.train_more(STEPS)
    newest = state_of(autoencoder)
    assert with_pca.values["nested dropout"] == measured(autoencoder.code, pixels, "error")
    assert with_pca.values["nested dropout"][4] < values["nested dropout"][4]
    with_pca.go_to(0)
    assert_same(state_of(autoencoder), first)
    assert with_pca.values == values
    curves = svg(with_pca).findall(".//{*}polyline")
    assert sum("opacity" in curve.get("style", "") for curve in curves if curve.get("points")) == 1
    assert [image.get("href") for image in svg(with_pca).iter(f"{SVG}image")] == re.findall(
        r'href="(data:[^"]+)"', early
    )
    with_pca.go_to(5)
    assert_same(state_of(autoencoder), newest)
    assert_same(state_of(rival), of_rival)


def test_an_error_above_one_is_said_and_drawn_at_the_top(pixels: digits.Pixels) -> None:
    model = Autoencoder(64, 3)
    with torch.no_grad():
        model.decoder.mul_(10)
    explorer = RankExplorer(model, model.code, pixels, views="error")
    error = measured(model.code, pixels, "error")[3]
    assert error > 1.5
    assert words(explorer, "dk-value") == [f"{100 * error:.0f} %"]
    heights = [float(circle.get("cy", "nan")) for circle in svg(explorer).iter(f"{SVG}circle")]
    assert min(heights) == pytest.approx(70, abs=0.1)


def test_fewer_examples_than_places_are_drawn_as_they_are(pixels: digits.Pixels) -> None:
    few = digits.Pixels(pixels.pixel_values[:3] + pixels.mean, pixels.mean)
    model = Autoencoder(64, 2, hidden=9)
    explorer = RankExplorer(model, model.code, few, views=["reconstructions"])
    assert [strip.shape for strip in strips(explorer)] == [(8, 26)] * 2


def test_an_autoencoder_is_shown_by_its_own_views_where_none_are_named(
    autoencoder: Autoencoder, pixels: digits.Pixels
) -> None:
    explorer = RankExplorer(autoencoder, autoencoder.code, pixels)
    assert 'data-method="autoencoder"' in explorer.picture.value
    assert len(strips(explorer)) == 2
