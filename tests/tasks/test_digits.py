"""The digits: their parts, their domains, and that loading them is repeatable."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dylora_kit.tasks import digits

SIZES = {"train": 1000, "validation": 200, "test": 597}


def pixels(domain: str) -> dict[str, np.ndarray]:
    task = digits.load(domain)
    return {part: getattr(task, part).pixel_values[:, 0].numpy() for part in SIZES}


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_every_domain_has_its_three_parts_in_the_promised_form(domain):
    task = digits.load(domain)
    assert task.name == f"digits-{domain}"
    assert task.metric == "accuracy"
    for part, size in SIZES.items():
        data = getattr(task, part)
        assert len(data) == size
        assert data.pixel_values.shape == (size, 1, 8, 8)
        assert data.pixel_values.dtype == torch.float32
        assert data.labels.dtype == torch.int64
        assert data.pixel_values.abs().max() <= 1
        assert data.pixel_values.min() < -0.5
        assert data.pixel_values.max() > 0.5
        assert set(data.labels.tolist()) == set(range(10))
        assert data[3].keys() == {"pixel_values", "labels"}
        assert torch.equal(data[3]["pixel_values"], data.pixel_values[3])
        assert data[3]["labels"] == data.labels[3]


def test_the_parts_are_disjoint_and_together_all_1797_scans():
    scans = load_digits()
    everything = np.concatenate(list(pixels("upright").values())).reshape(1797, 64)
    original = (scans.images / 8 - 1).astype(np.float32).reshape(1797, 64)
    assert sorted(map(tuple, everything)) == sorted(map(tuple, original))


def test_the_parts_are_stratified():
    task = digits.load("upright")
    shares = np.bincount(load_digits().target) / 1797
    for part in SIZES:
        labels = getattr(task, part).labels.numpy()
        assert np.abs(np.bincount(labels, minlength=10) - shares * len(labels)).max() <= 1


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_loading_twice_gives_the_same_and_draws_nothing(domain):
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002 (the global generator is what this is about)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = digits.load(domain), digits.load(domain)
    for part in SIZES:
        assert torch.equal(getattr(first, part).pixel_values, getattr(second, part).pixel_values)
        assert torch.equal(getattr(first, part).labels, getattr(second, part).labels)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_changing_loaded_pixels_does_not_change_what_is_loaded_next():
    before = pixels("upright")["test"].copy()
    digits.load("upright").test.pixel_values.zero_()
    assert (pixels("upright")["test"] == before).all()


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_labels_are_in_the_same_order_in_every_domain(domain):
    upright, other = digits.load("upright"), digits.load(domain)
    for part in SIZES:
        assert torch.equal(getattr(upright, part).labels, getattr(other, part).labels)


def test_turned_digits_are_the_upright_ones_turned_by_90_degrees():
    upright, turned = pixels("upright"), pixels("turned")
    for part in SIZES:
        assert np.array_equal(turned[part], np.stack([np.rot90(image) for image in upright[part]]))
    assert not np.array_equal(turned["test"], upright["test"])


def test_permuted_digits_have_their_pixels_in_one_order_for_all_images():
    upright, permuted = pixels("upright"), pixels("permuted")
    flat = np.concatenate(list(upright.values())).reshape(-1, 64)
    moved = np.concatenate(list(permuted.values())).reshape(-1, 64)
    marks = digits._alter(np.arange(64, dtype=np.float32).reshape(1, 8, 8), "permuted").reshape(64).astype(int)
    assert sorted(marks.tolist()) == list(range(64))
    assert (marks != np.arange(64)).sum() > 50
    assert np.array_equal(moved, flat[:, marks])
    assert np.array_equal(moved[:, np.argsort(marks)], flat)


def test_inverted_digits_are_dark_where_the_upright_ones_are_light_with_noise():
    upright, inverted = pixels("upright"), pixels("inverted")
    for part in SIZES:
        middle = np.abs(upright[part]) < 0.2  # where clipping is rare
        noise = (inverted[part] + upright[part])[middle]
        assert abs(noise.mean()) < 0.03
        assert abs(noise.std() - digits.NOISE) < 0.03
        assert np.corrcoef(upright[part].ravel(), inverted[part].ravel())[0, 1] < -0.8


def test_an_unknown_domain_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown domain 'mirrored': expected one of 'upright', 'turned', 'permuted'"):
        digits.load("mirrored")
