"""The decomposition of B·A that the files are cut by, beside torch's of the whole matrix."""

import pytest
import torch

from dylora_kit.core.rotation import balanced, svd_of_product
from dylora_kit.resizing.singular_values import effective_rank, energy_beyond, singular_values_of_product

SHAPES = [(3, 7, 11), (3, 11, 7), (6, 4, 9), (6, 9, 4), (6, 5, 4)]  # r, d_in, d_out; r above a size, or above both


def pair(r: int, d_in: int, d_out: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(r)
    return tuple(torch.randn(size, generator=generator).to(dtype) for size in ((r, d_in), (d_out, r)))


@pytest.mark.parametrize(("r", "d_in", "d_out"), SHAPES)
def test_a_cut_is_the_closest_matrix_of_its_rank(r: int, d_in: int, d_out: int) -> None:
    A, B = pair(r, d_in, d_out)
    whole = B.double() @ A.double()
    u, s, vh = torch.linalg.svd(whole, full_matrices=False)
    parts = svd_of_product(A, B)
    k = min(r, d_in, d_out)
    assert len(parts[1]) == k
    torch.testing.assert_close(parts[1], s[:k])
    torch.testing.assert_close(singular_values_of_product(A, B), s[:k])
    for b in range(1, k + 1):
        new_A, new_B = balanced(*parts, b)
        assert new_A.shape == (b, d_in) and new_B.shape == (d_out, b)
        torch.testing.assert_close(new_B @ new_A, u[:, :b] * s[:b] @ vh[:b])
        torch.testing.assert_close(new_A.norm(dim=1), new_B.norm(dim=0))  # as much of it in A as in B
        assert energy_beyond(b, s) == pytest.approx((whole - new_B @ new_A).square().sum().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_small_types_are_cut_in_double_precision(dtype: torch.dtype) -> None:
    A, B = pair(3, 7, 11, dtype)
    new_A, new_B = balanced(*svd_of_product(A, B), 3)
    assert new_A.dtype == torch.float64
    torch.testing.assert_close(new_B @ new_A, B.double() @ A.double(), rtol=0, atol=1e-12)


def test_a_layer_that_was_never_trained_stays_zero_and_can_still_be_trained() -> None:
    A, B = pair(3, 7, 11)
    new_A, new_B = balanced(*svd_of_product(A, torch.zeros_like(B)), 2)
    assert not new_B.any()
    torch.testing.assert_close(new_A.norm(dim=1), torch.ones(2, dtype=torch.float64))


def test_the_effective_rank_is_between_one_and_the_number_of_values() -> None:
    assert effective_rank(torch.tensor([5.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0])) == pytest.approx(3)
    # exp(−¾·ln ¾ − ¼·ln ¼)
    assert effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(1.7547653)
    assert effective_rank(torch.zeros(3)) == 0
