# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The plane of the latents, the gaps in it, and what a codebook does: by hand where an eye can check it."""

import math

import pytest
import torch

from hf_autoencoders import DVAEConfig, DVAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.evaluation.codes import (
    code_atlas,
    errors_around_quantizer,
    relaxation_gap,
    squared_error,
)
from hf_autoencoders.evaluation.latent_space import PlaneWindow, central_window, find_gaps, fit_plane, plane_latents
from hf_autoencoders.evaluation.metrics import count_codes, evaluate


SMALL = {"image_size": 8, "num_channels": 1, "block_out_channels": (8, 8), "residual_channels": 4}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed))


def pictures(number, seed=1):
    return torch.rand(number, 1, 8, 8, generator=seeded(seed)) * 2 - 1


def vqvae():
    torch.manual_seed(0)
    return VQVAEModel(VQVAEConfig(**SMALL, codebook_size=6, codebook_dim=4, quantizer="vq")).eval()


def dvae(**fields):
    torch.manual_seed(0)
    sizes = {"codebook_size": 6, "codebook_dim": 4}
    return DVAEModel(DVAEConfig(**SMALL, backbone="conv", **{**sizes, **fields})).eval()


# -- the plane ---------------------------------------------------------------------------------------------------------


def test_two_latents_are_shown_as_they_are():
    latents = normal(50, 2, 1, 1) * torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    plane = fit_plane(latents)
    assert plane.whole and plane.axis_labels()[0] == "latent z$_1$"
    torch.testing.assert_close(plane.coordinates(latents), latents.flatten(1))
    torch.testing.assert_close(plane.latents(plane.coordinates(latents)), latents)


def test_more_latents_are_shown_by_their_principal_components():
    latents = normal(200, 3, 2, 2) * torch.linspace(0.1, 3, 12).view(1, 3, 2, 2)
    plane = fit_plane(latents)
    flat = latents.flatten(1) - latents.flatten(1).mean(0)
    _, singular, directions = torch.linalg.svd(flat, full_matrices=False)
    shares = singular.square() / singular.square().sum()
    assert plane.variance_share == pytest.approx(shares[:2].tolist(), rel=1e-4)
    torch.testing.assert_close(plane.coordinates(latents).abs(), (flat @ directions[:2].T).abs(), rtol=1e-3, atol=1e-3)
    assert plane.axis_labels()[1] == f"principal component 2 ({shares[1]:.0%} of variance)"
    points = normal(5, 2, seed=1)
    torch.testing.assert_close(plane.coordinates(plane.latents(points)), points, rtol=1e-4, atol=1e-4)


def test_the_grid_starts_at_the_top_left_and_lies_at_the_cells_centres():
    grid = PlaneWindow(0.0, 2.0, 10.0, 12.0).grid(2)
    assert grid.tolist() == [[0.5, 11.5], [1.5, 11.5], [0.5, 10.5], [1.5, 10.5]]


def test_the_window_leaves_out_the_outermost_points():
    window = central_window(torch.stack([torch.arange(1001.0), torch.zeros(1001)], 1))
    assert (window.left, window.right) == pytest.approx((10, 990))
    assert (window.bottom, window.top) == (-0.5, 0.5)  # all the same: a window must have an inside


def test_the_plane_of_a_codebook_is_that_of_its_vectors_unless_decode_would_take_them_for_logits():
    pixels = pictures(3)
    model = vqvae()
    torch.testing.assert_close(plane_latents(model, pixels), model.encode(pixels).quantized)
    model = dvae(codebook_dim=6)
    torch.testing.assert_close(plane_latents(model, pixels), model.encode(pixels).latents)


# -- gaps --------------------------------------------------------------------------------------------------------------


def ring(number, seed=0):
    """Codes on a ring of radii 2 to 3: nothing was encoded inside or in the corners."""
    angle = 2 * math.pi * torch.rand(number, generator=seeded(seed))
    radius = 2 + torch.rand(number, generator=seeded(seed + 1))
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def judged_by_hand(train, held_out, **knobs):
    """Gaps of a plane whose points are its pictures; both judges take the right half."""
    right = lambda z: z.flatten(1)[:, 0] > 0  # noqa: E731
    plane = fit_plane(train.view(-1, 2, 1, 1))
    return find_gaps(plane, train, held_out, lambda z: z, lambda z: right(z).float(), right, **knobs)


def test_the_gap_of_a_ring_is_its_hole_and_not_the_corners_around_it():
    found = judged_by_hand(ring(4000), ring(1000, seed=2))
    radii = torch.linalg.vector_norm(found.points, dim=1)
    assert (radii < 2).double().mean() > 0.95 and radii.max() < 3  # the others lie where the ring is thin by chance
    assert found.share == pytest.approx(2**2 / 3**2, abs=0.05)  # of the disc that the ring surrounds
    assert found.accepted == pytest.approx(0.5, abs=0.05) and found.plausible_share == found.accepted
    assert len(found.points) == len(found.anywhere) == 2000
    assert torch.linalg.vector_norm(found.anywhere, dim=1).square().mean() == pytest.approx(3**2 / 2, rel=0.05)


def test_a_plane_full_of_codes_has_hardly_a_gap():
    train = torch.rand(5000, 2, generator=seeded())
    assert judged_by_hand(train, train[:100]).radius == 0  # held-out codes that are training codes
    assert judged_by_hand(train, torch.rand(500, 2, generator=seeded(1))).share < 0.03


def test_without_gaps_there_is_no_share_that_is_accepted():
    far = torch.full((10, 2), 100.0)  # held-out codes so far away that nothing in the hull counts as far
    found = judged_by_hand(torch.rand(500, 2, generator=seeded()), far)
    assert found.share == 0 and found.accepted is None and found.plausible_share is None


def test_codes_on_a_line_have_no_hull_and_so_no_gap():
    line = torch.stack([torch.linspace(0, 1, 50)] * 2, 1)
    found = judged_by_hand(line, line[::2])
    assert found.share == 0 and len(found.anywhere) == 0


# -- codes -------------------------------------------------------------------------------------------------------------


def test_codes_are_counted_level_by_level():
    assert count_codes(torch.tensor([[[0, 1], [1, 1]]]), 3).tolist() == [[1, 3, 0]]
    assert count_codes(torch.tensor([[[[0, 2], [1, 2]]]]), 3).tolist() == [[1, 1, 0], [0, 0, 2]]


def test_the_atlas_shows_what_stands_around_each_code():
    """Two 4x4 pictures of 2x2 cells; code 1 is white wherever it stands, code 0 black, code 2 is never used."""
    tokens = torch.tensor([[[1, 0], [0, 1]], [[0, 0], [0, 0]]])
    pixels = (2.0 * tokens - 1)[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
    atlas = code_atlas(tokens, pixels, 3, context=0)
    assert atlas[1].unique().tolist() == [1.0] and atlas[0].unique().tolist() == [-1.0]
    assert atlas[2].isnan().all()
    around = code_atlas(tokens, pixels, 3, context=1)  # cells outside the picture repeat its edge
    assert around.shape == (3, 1, 6, 6)
    assert (around[1, 0, 2:4, 2:4] == 1).all()
    assert (around[1, 0, 2:4, 4:] == 0).all()  # right of it: black once, and once itself, repeated at the edge


def test_errors_around_the_quantizer_agree_with_decoding_by_hand():
    model, pixels = vqvae(), pictures(10)
    quantized, unquantized = errors_around_quantizer(model, pixels.split(4))
    encoded = model.encode(pixels)
    torch.testing.assert_close(quantized, squared_error(model.reconstruct(pixels), pixels))
    logits = model.decode_latents(encoded.latents).clamp(-1, 1)
    torch.testing.assert_close(unquantized, ((logits - pixels) / 2).square().sum((1, 2, 3)))


def test_the_relaxation_gap_is_that_of_the_whole_set():
    model, pixels = dvae(), pictures(12)
    found = relaxation_gap(model, lambda: pixels.split(5), temperatures=(1.0, 0.1), seed=3)
    metrics = evaluate(model, [{"pixel_values": pixels}], temperature=0.1, seed=3, ssim=False)
    # Draws come in another order for other batches, so the two agree in size, not in digits.
    assert found.relaxed[1] == pytest.approx(metrics["relaxed_elbo"], rel=0.05)
    assert found.hard[1] == pytest.approx(metrics["hard_elbo"], rel=0.05)
    assert found.hard[0] == found.hard[1]  # one-hot samples do not depend on the temperature
