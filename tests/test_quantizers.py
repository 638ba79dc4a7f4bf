# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The quantizers, each claim computed a second way."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn, tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hf_autoencoders.models.codebook_tensors import initialize
from hf_autoencoders.models.codebooks import draw_global_rows, k_means, perplexity_and_usage, scramble
from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig
from hf_autoencoders.models.nearest_codes import nearest_codes
from hf_autoencoders.models.quantizer_base import check_codes, rotation, straight_through
from hf_autoencoders.models.quantizer_fsq import balanced_levels
from hf_autoencoders.models.quantizer_gumbel import BATCH_TO_CONVOLVE, gumbel_softmax, mixture
from hf_autoencoders.models.quantizers import QUANTIZERS


VQ_NAMES = ("vq", "l2", "ema", "simvq", "residual", "fsq")


def build(quantizer: str, **overrides):
    fields = {"codebook_size": 16, "codebook_dim": 4, "quantizer": quantizer, "codebook_init": "uniform"}
    return QUANTIZERS[quantizer](VQVAEConfig(**{**fields, "revive_dead_codes": False, **overrides}))


def vectors(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def worst_excess(latents, codebook, codes) -> float:
    """How much farther than the nearest code the chosen one lies, relative, in float64 by another formula."""
    latents, codebook, worst = latents.double(), codebook.double(), 0.0
    for z, chosen in zip(latents.split(4096), codes.split(4096), strict=True):
        smallest = torch.cdist(z, codebook, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
        mine = (z - codebook[chosen]).square().sum(1)
        worst = max(worst, ((mine - smallest) / smallest.clamp_min(1e-300)).max().item())
    return worst


# ---- Nearest code ----------------------------------------------------------------------------------------------------


def test_the_nearest_of_three_codes_on_a_line():
    codebook = tensor([[0.0], [1.0], [5.0]])
    assert nearest_codes(tensor([[0.4], [0.6], [9.0]]), codebook).tolist() == [0, 1, 2]


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("size, dim", [(1, 4), (2, 8), (100, 4), (129, 8), (1024, 64)])
def test_nearest_code_agrees_with_brute_force(size, dim, offset):
    latents, codebook = vectors(2000, dim) + offset, vectors(size, dim, seed=1) + offset
    assert worst_excess(latents, codebook, nearest_codes(latents, codebook)) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size, dim, offset", [(512, 4, 0), (512, 8, 3), (512, 64, 3), (16384, 64, 3)])
def test_nearest_code_of_1e5_vectors_under_autocast(dtype, size, dim, offset):
    latents, codebook = vectors(100_000, dim) + offset, vectors(size, dim, seed=1) + offset
    with torch.autocast("cpu", dtype=dtype):
        codes = nearest_codes(latents, codebook)
    assert worst_excess(latents, codebook, codes) <= 1e-5


def test_autocast_changes_no_code():
    latents, codebook = vectors(3000, 8) + 3, vectors(512, 8, seed=1) + 3
    expected = nearest_codes(latents, codebook)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(nearest_codes(latents, codebook), expected)


def test_narrow_latents_are_compared_exactly_with_a_float32_codebook():
    latents, codebook = vectors(2000, 8).bfloat16(), vectors(300, 8, seed=1)
    assert worst_excess(latents, codebook, nearest_codes(latents, codebook)) <= 1e-5


def test_float64_vectors_are_told_apart_where_float32_cannot():
    codebook = tensor([[1.0], [1.0 + 1e-12]], dtype=torch.float64)
    latents = tensor([[1.0], [1.0 + 0.4e-12], [1.0 + 0.6e-12]], dtype=torch.float64)
    assert nearest_codes(latents, codebook).tolist() == [0, 0, 1]


def test_a_margin_below_the_rounding_of_scores_is_decided_by_differences():
    near = 1 + 2.0**-22  # the squared distances differ by 1e-6 of themselves, the scores by 1e-10 of theirs
    codebook = tensor([[100.0, near], [100.0, -1.0], [-100.0, 0.0]])
    assert nearest_codes(tensor([[100.0, 0.0], [-99.0, 0.0]]), codebook).tolist() == [1, 2]


def test_ties_go_to_the_lowest_index():
    codes = vectors(3, 8)
    repeated = codes.repeat(100, 1)  # code k again at k + 3, k + 6, ...
    assert nearest_codes(repeated, repeated).tolist() == [0, 1, 2] * 100
    assert nearest_codes(vectors(50, 8), torch.zeros(300, 8)).tolist() == [0] * 50
    assert nearest_codes(tensor([[0.0]]), tensor([[1.0], [-1.0]])).tolist() == [0]


def test_codes_do_not_depend_on_who_else_is_in_the_batch():
    latents, codebook = vectors(500, 16), vectors(700, 16, seed=1)
    alone = torch.cat([nearest_codes(row[None], codebook) for row in latents])
    assert torch.equal(nearest_codes(latents, codebook), alone)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_vector_has_a_valid_code_and_spoils_no_other(broken):
    latents, codebook = vectors(20, 8), vectors(130, 8, seed=1)
    spoilt = latents.clone()
    spoilt[7, 3] = broken
    codes, expected = nearest_codes(spoilt, codebook), nearest_codes(latents, codebook)
    assert 0 <= codes[7] < 130
    assert torch.equal(codes[8:], expected[8:]) and torch.equal(codes[:7], expected[:7])


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., D\) latents"):
        nearest_codes(vectors(3, 8), vectors(3, 4))


def test_no_vectors_have_no_codes():
    assert nearest_codes(vectors(0, 8), vectors(5, 8)).shape == (0,)


class LargestTensor(TorchDispatchMode):
    """Remembers the size in bytes of the largest tensor that any operation gives."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return result


def test_look_up_never_holds_all_distances():
    latents, codebook = vectors(8192, 8), vectors(4096, 8, seed=1)
    with LargestTensor() as largest:
        nearest_codes(latents, codebook)
    assert largest.bytes <= 16 * 2**20 < 8192 * 4096 * 4


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_compiled_and_the_exported_look_up_choose_the_same_codes(offset):
    class LookUp(nn.Module):
        def forward(self, latents, codebook):
            return nearest_codes(latents, codebook)

    latents, codebook = vectors(600, 8) + offset, vectors(200, 8, seed=1) + offset
    codebook[150:] = codebook[:50]  # ties
    expected = nearest_codes(latents, codebook)
    compiled = torch.compile(LookUp(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(latents, codebook), expected)
    rows = torch.export.Dim("rows", min=2, max=4096)
    exported = torch.export.export(LookUp(), (latents[:9], codebook), dynamic_shapes=({0: rows}, None)).module()
    assert torch.equal(exported(latents, codebook), expected)


# ---- The gradient through a choice -----------------------------------------------------------------------------------


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    z_e, z_q = vectors(5, 4).requires_grad_(), vectors(5, 4, seed=1) * 1e-3
    result = straight_through(z_e, z_q)
    (result * vectors(5, 4, seed=2)).sum().backward()
    assert torch.equal(result, z_q)
    assert torch.equal(z_e.grad, vectors(5, 4, seed=2))


def test_rotation_is_the_rotation_and_scaling_that_takes_z_to_its_code():
    z_e, z_q = vectors(6, 4, dtype=torch.float64).requires_grad_(), vectors(6, 4, seed=1, dtype=torch.float64)
    upstream = vectors(6, 4, seed=2, dtype=torch.float64)
    result = rotation(z_e, z_q)
    (result * upstream).sum().backward()
    assert torch.equal(result, z_q)
    for z, q, given, gradient in zip(z_e.detach(), z_q, upstream, z_e.grad, strict=True):
        r = z / z.norm() + q / q.norm()
        r = r / r.norm()
        turn = torch.eye(4).double() - 2 * torch.outer(r, r) + 2 * torch.outer(q, z) / (q.norm() * z.norm())
        matrix = q.norm() / z.norm() * turn
        torch.testing.assert_close(turn @ turn.T, torch.eye(4).double())
        torch.testing.assert_close(matrix @ z, q)
        torch.testing.assert_close(gradient, matrix.T @ given)


def test_rotation_of_nothing_has_a_finite_gradient():
    z_e = tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    result = rotation(z_e, tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]))  # from 0, to 0, straight back
    result.sum().backward()
    assert result.isfinite().all() and z_e.grad.isfinite().all()


# ---- What every quantizer keeps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
@pytest.mark.parametrize("name", VQ_NAMES)
def test_latents_are_bit_for_bit_the_vectors_of_the_codes(name, gradient):
    quantizer, z_e = build(name, gradient=gradient).eval(), vectors(2, 4, 3, 5)
    result = quantizer(z_e)
    assert torch.equal(result.latents, quantizer.get_codebook_entry(result.codes))
    assert torch.equal(result.codes, quantizer.encode(z_e))
    assert result.codes.shape[:3] == (2, 3, 5) and result.codes.dtype == torch.int64
    assert result.latents.shape == z_e.shape


@pytest.mark.parametrize("name", VQ_NAMES)
def test_the_likeliest_code_is_the_chosen_one(name):
    quantizer, z_e = build(name, codebook_dim=2, fsq_levels=[4, 4]), vectors(2, 2, 3, 5)
    affinities = quantizer.log_affinities(z_e)
    codes = quantizer.encode(z_e).flatten(1)
    assert affinities.shape == (2, codes.shape[1], 16)
    assert torch.equal(affinities.argmax(2), codes)


@pytest.mark.parametrize("name", VQ_NAMES)
def test_flat_codes_with_their_shape_give_the_same_vectors(name):
    quantizer = build(name)
    codes = quantizer.encode(vectors(2, 4, 3, 5))
    expected = quantizer.get_codebook_entry(codes)
    assert torch.equal(quantizer.get_codebook_entry(codes.flatten(), shape=(2, 3, 5, 4)), expected)


@pytest.mark.parametrize("name", VQ_NAMES)
def test_eval_changes_nothing(name):
    quantizer = build(name, codebook_init="data", revive_dead_codes=True).eval()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer(vectors(2, 4, 3, 5))
    quantizer.encode(vectors(2, 4, 3, 5))
    assert all(torch.equal(before[key], value) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("name", VQ_NAMES)
def test_under_autocast_a_quantizer_computes_in_float32(name):
    quantizer, z_e = build(name).eval(), vectors(4, 4, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantizer(z_e)
    expected = quantizer(z_e.float())
    assert torch.equal(result.codes, expected.codes)
    assert torch.equal(result.latents, expected.latents.bfloat16())
    assert result.commitment_loss.dtype == result.perplexity.dtype == torch.float32
    torch.testing.assert_close(result.commitment_loss, expected.commitment_loss)


@pytest.mark.parametrize("name", VQ_NAMES)
def test_a_cast_to_16_bits_leaves_the_codebook_alone_and_one_to_64_does_not(name):
    quantizer, z_e = build(name), vectors(2, 4, 3, 5)
    before = quantizer.state_dict()
    for cast in (quantizer.bfloat16, quantizer.half):
        assert all(torch.equal(before[key], value) for key, value in cast().state_dict().items())
    quantizer(z_e.bfloat16())
    assert all(v.dtype == torch.float64 for v in quantizer.double().state_dict().values() if v.is_floating_point())
    result = quantizer(z_e.double())
    assert result.latents.dtype == result.commitment_loss.dtype == torch.float64


@pytest.mark.parametrize("name", VQ_NAMES)
def test_two_forwards_before_one_backward(name):
    quantizer = build(name, codebook_init="data", revive_dead_codes=True, dead_code_threshold=0.9)
    z_e = vectors(2, 4, 3, 5).requires_grad_()
    results = quantizer(z_e), quantizer(z_e)
    losses = [sum((r.latents.sum(), r.codebook_loss, r.commitment_loss)) for r in results]
    sum(losses).backward()  # fails if the codebook was changed under the graph
    assert z_e.grad.isfinite().all()


@pytest.mark.parametrize("name", VQ_NAMES)
def test_a_fresh_model_on_the_meta_device_has_the_values_of_a_plain_one(name):
    expected = build(name)
    with torch.device("meta"):
        later = build(name)
    assert later(vectors(2, 4, 3, 5).to("meta")).codes.shape[:3] == (2, 3, 5)
    later.to_empty(device="cpu")
    for module in later.modules():
        initialize(module)
    fixed = [key for key, _ in expected.named_buffers()]
    assert all(torch.equal(expected.state_dict()[key], later.state_dict()[key]) for key in fixed)
    assert all(p.abs().max() <= 1 for p in later.parameters())


def test_out_of_range_codes_are_named():
    check_codes(tensor([0, 15]), 16)
    with pytest.raises(ValueError, match=r"0\.\.15 .*got -1\.\.16"):
        check_codes(tensor([[-1, 16]]), 16)


def test_perplexity_and_usage_of_counts_checked_by_eye():
    perplexity, usage = perplexity_and_usage(tensor([2.0, 2.0, 0.0, 0.0]))
    assert perplexity.item() == pytest.approx(2) and usage.item() == 0.5
    assert perplexity_and_usage(torch.full((7,), 3.0))[0].item() == pytest.approx(7)


# ---- vq and l2 -------------------------------------------------------------------------------------------------------


def test_plain_vq_has_exactly_one_tensor():
    assert list(build("vq").state_dict()) == list(build("l2").state_dict()) == ["embedding.weight"]
    assert build("vq").embedding.weight.abs().max() <= 1 / 16
    assert build("vq").embedding.weight.requires_grad


def test_losses_of_one_vector_checked_by_eye():
    quantizer = build("vq", codebook_size=2, codebook_dim=2)
    quantizer.embedding.weight.data = tensor([[0.0, 0.0], [10.0, 0.0]])
    z_e = tensor([3.0, 4.0]).view(1, 2, 1, 1).requires_grad_()
    result = quantizer(z_e)  # the nearest is 0, 5 away: 25 / 2 per element
    assert result.codes.item() == 0 and result.commitment_loss.item() == result.codebook_loss.item() == 12.5
    (result.codebook_loss + 0.25 * result.commitment_loss).backward()
    torch.testing.assert_close(quantizer.embedding.weight.grad, tensor([[-3.0, -4.0], [0.0, 0.0]]))  # towards z
    torch.testing.assert_close(z_e.grad.flatten(), 0.25 * tensor([3.0, 4.0]))  # towards e


def test_norm_ratio_tells_how_far_the_encoder_ran_away():
    quantizer = build("vq", codebook_size=1, codebook_dim=2)
    quantizer.embedding.weight.data = tensor([[0.0, 2.0]])
    assert quantizer(tensor([6.0, 8.0]).view(1, 2, 1, 1)).norm_ratio.item() == 5


def test_l2_compares_directions():
    quantizer, z_e = build("l2"), vectors(2, 4, 3, 5)
    similarity = torch.einsum("bdhw,kd->bhwk", F.normalize(z_e, dim=1), F.normalize(quantizer.embedding.weight, dim=1))
    result = quantizer(z_e)
    assert torch.equal(result.codes, similarity.argmax(3))
    torch.testing.assert_close(result.latents.norm(dim=1), torch.ones(2, 3, 5))
    assert torch.equal(quantizer(7 * z_e).codes, result.codes)


# ---- ema -------------------------------------------------------------------------------------------------------------


def reference_ema(codebook, batches, decay, epsilon):
    """Counts and sums averaged apart, smoothed on read: van den Oord et al. 2017, eq. 6-8, and sonnet's smoothing."""
    counts, sums = torch.ones(len(codebook), dtype=codebook.dtype), codebook.clone()
    for z in batches:
        one_hot = F.one_hot(torch.cdist(z, codebook).argmin(1), len(codebook)).to(z.dtype)
        counts = decay * counts + (1 - decay) * one_hot.sum(0)
        sums = decay * sums + (1 - decay) * one_hot.T @ z
        smoothed = (counts + epsilon) / (counts.sum() + len(codebook) * epsilon) * counts.sum()
        codebook = sums / smoothed[:, None]
    return codebook, counts


def rows_of(z_e):
    return z_e.movedim(1, -1).flatten(0, 2)


def are_among(some, rows) -> bool:
    """Whether each of `some` (M, D) is one of `rows` (N, D), bit for bit."""
    return (some[:, None] == rows).all(2).any(1).all().item()


def test_the_ema_codebook_is_the_ratio_of_two_averages():
    quantizer = build("ema", ema_decay=0.8, ema_epsilon=1e-3).double()
    batches = [vectors(4, 4, 3, 3, seed=i, dtype=torch.float64) for i in range(30)]
    codebook, counts = reference_ema(quantizer.embedding.weight.clone(), map(rows_of, batches), 0.8, 1e-3)
    for z_e in batches:
        quantizer(z_e)
    torch.testing.assert_close(quantizer.embedding.weight, codebook, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(quantizer.state.counts, counts, rtol=1e-12, atol=1e-12)


def test_an_unused_ema_code_keeps_its_place():
    quantizer = build("ema", codebook_size=2, codebook_dim=1)
    quantizer.embedding.weight.copy_(tensor([[0.0], [100.0]]))
    for _ in range(100):
        quantizer(torch.full((1, 1, 2, 2), 3.0))
    near, far = quantizer.embedding.weight.flatten().tolist()
    assert 2 < near < 3 and far == pytest.approx(100, rel=1e-4)


def test_ema_gives_the_codes_from_before_the_update():
    quantizer, z_e = build("ema"), vectors(2, 4, 3, 5)
    before = quantizer.embedding.weight.clone()
    result = quantizer(z_e)
    assert torch.equal(rows_of(result.latents), before[result.codes.flatten()])
    assert not torch.equal(quantizer.embedding.weight, before)
    assert result.codebook_loss == 0 and not list(quantizer.parameters())


@pytest.mark.parametrize("name", ["ema", "residual", "vq", "l2", "simvq", "fsq"])
def test_four_deferred_micro_batches_equal_one_batch(name):
    z_e = vectors(64, 4, 3, 3, dtype=torch.float64)
    overrides = {"revive_dead_codes": True, "dead_code_threshold": 0.5, "ema_decay": 0.5}
    whole, parts = (build(name, **overrides).double() for _ in range(2))
    parts.load_state_dict(whole.state_dict())
    parts.defer_state_updates(True)
    for _ in range(3):
        z_e = z_e.roll(1, 1) * 1.5
        whole(z_e)
        for part in z_e.split(16):
            parts(part)
        parts.apply_state_updates()
        parts.apply_state_updates()  # a second call finds nothing left
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value, rtol=1e-12, atol=1e-14)


def test_deferred_statistics_wait():
    quantizer = build("ema")
    before = quantizer.embedding.weight.clone()
    quantizer.defer_state_updates(True)
    quantizer(vectors(2, 4, 3, 5))
    assert torch.equal(quantizer.embedding.weight, before)
    quantizer.apply_state_updates()
    assert not torch.equal(quantizer.embedding.weight, before)


# ---- Start from data, and revival ------------------------------------------------------------------------------------


def test_k_means_finds_clusters_that_are_there():
    centres = 10 * vectors(8, 4)
    rows = centres.repeat_interleave(50, 0) + 0.01 * vectors(400, 4, seed=1)
    centroids, counts = k_means(rows, 12, seed=0)
    assert counts.sum() == 400 and (counts > 0).all()
    assert torch.cdist(centres, centroids).amin(1).max() < 0.05


def test_k_means_on_a_plain_background_wastes_no_centroid():
    rows = torch.zeros(1000, 4)
    rows[:40] = vectors(40, 4)  # nine rows in ten are the same
    _, counts = k_means(rows, 20, seed=0)
    assert (counts > 0).all()


def test_k_means_with_fewer_rows_than_centroids_stays_finite():
    centroids, counts = k_means(vectors(5, 4), 16, seed=0)
    assert centroids.isfinite().all() and (counts > 0).sum() == 5


@pytest.mark.parametrize("name", ["vq", "l2", "ema", "residual"])
def test_the_first_training_batch_sets_the_codebook_once(name):
    quantizer, z_e = build(name, codebook_init="data", codebook_size=8), 3 + vectors(4, 4, 4, 4)
    assert quantizer.wants_data
    first = quantizer(z_e)
    assert not quantizer.wants_data
    assert first.commitment_loss < 0.6 * build(name, codebook_size=8)(z_e).commitment_loss
    codebook = [v.clone() for k, v in quantizer.state_dict().items() if "embedding" in k]
    quantizer.initialize_from_data(z_e + 5)
    now = (value for name, value in quantizer.state_dict().items() if "embedding" in name)
    assert all(torch.equal(a, b) for a, b in zip(codebook, now, strict=True))


def test_a_restored_quantizer_does_not_start_again():
    trained, restored = (build("ema", codebook_init="data") for _ in range(2))
    assert restored.wants_data
    trained(vectors(2, 4, 3, 5))
    restored.load_state_dict(trained.state_dict())
    assert not restored.wants_data


def test_a_dead_code_returns_at_a_vector_of_the_batch_with_new_state():
    revives = {"revive_dead_codes": True, "dead_code_threshold": 0.5}
    quantizer = build("ema", codebook_size=3, codebook_dim=2, ema_decay=0.5, **revives)
    quantizer.embedding.weight.copy_(tensor([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0]]))
    z_e = torch.rand(2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        quantizer(z_e)
    revived = quantizer.embedding.weight[2]
    assert revived.abs().max() < 2, "far away is where no vector lies"
    assert quantizer.state.counts[2] > 0.5 * quantizer.state.counts.mean()
    assert quantizer(z_e).codebook_usage == 1


@pytest.mark.parametrize("name", ["vq", "l2", "ema"])
def test_revival_copies_rows_of_the_batch(name):
    quantizer = build(name, revive_dead_codes=True, dead_code_threshold=1e9)  # all dead: no count passes a mean x 1e9
    z_e = vectors(2, 4, 3, 5)
    quantizer(z_e)
    rows = rows_of(z_e)
    expected = F.normalize(rows, dim=1) if name == "l2" else rows
    assert are_among(quantizer.embedding.weight, expected)


def test_draws_are_a_function_of_seed_and_step():
    rows, step = vectors(1000, 2), tensor(7)
    drawn = draw_global_rows(rows, 50, 3, step)
    assert torch.equal(drawn, draw_global_rows(rows, 50, 3, step))
    assert not torch.equal(drawn, draw_global_rows(rows, 50, 4, step))
    assert not torch.equal(drawn, draw_global_rows(rows, 50, 3, step + 1))
    assert are_among(drawn, rows)


def test_scrambled_numbers_look_uniform():
    numbers = torch.cat([scramble(1000, 0, step, torch.device("cpu")) for step in range(100)])
    assert numbers.min() >= 0 and numbers.max() < 2**32
    observed = torch.bincount(numbers % 100, minlength=100).double()
    chi_square = ((observed - 1000).square() / 1000).sum()  # 99 degrees of freedom: mean 99, standard deviation 14
    assert 50 < chi_square < 160


# ---- simvq, residual -------------------------------------------------------------------------------------------------


def test_simvq_codes_are_a_fixed_matrix_seen_through_a_learned_map():
    quantizer, z_e = build("simvq"), vectors(2, 4, 3, 5)
    assert torch.equal(quantizer.embedding.weight, build("simvq").embedding.weight)
    assert not torch.equal(quantizer.embedding.weight, build("simvq", codebook_seed=1).embedding.weight)
    codebook = quantizer.embedding.weight @ quantizer.embedding_proj.weight.T + quantizer.embedding_proj.bias
    assert torch.equal(quantizer(z_e).codes.flatten(), torch.cdist(rows_of(z_e), codebook).argmin(1))
    quantizer(z_e).codebook_loss.backward()
    assert quantizer.embedding_proj.weight.grad.abs().sum() > 0
    assert [name for name, _ in quantizer.named_parameters()] == ["embedding_proj.weight", "embedding_proj.bias"]


def test_residual_levels_quantise_what_is_left():
    quantizer, z_e = build("residual", num_quantizers=3).eval(), vectors(2, 4, 3, 5)
    result = quantizer(z_e)
    left, losses = rows_of(z_e), []
    for i, level in enumerate(quantizer.levels):
        codes = torch.cdist(left, level.embedding.weight).argmin(1)
        assert torch.equal(result.codes[..., i].flatten(), codes)
        left = left - level.embedding.weight[codes]
        losses.append(left.square().mean())
    torch.testing.assert_close(rows_of(z_e - result.latents), left)
    torch.testing.assert_close(result.commitment_loss, torch.stack(losses).mean())
    assert result.codes.shape == (2, 3, 5, 3)
    assert sorted(quantizer.state_dict())[0] == "levels.0.embedding.weight"


def test_more_levels_leave_less():
    z_e, errors = vectors(16, 4, 4, 4), []
    for depth in (1, 2, 4):
        quantizer = build("residual", num_quantizers=depth, codebook_init="data")
        quantizer.initialize_from_data(z_e)
        errors.append((quantizer.eval()(z_e).latents - z_e).square().mean())
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


# ---- fsq -------------------------------------------------------------------------------------------------------------


def test_levels_are_found_for_any_codebook_size():
    assert balanced_levels(512) == [8, 8, 8] and balanced_levels(1000) == [8, 5, 5, 5]
    assert all(math.prod(balanced_levels(size)) == size for size in (2, 7, 60, 128, 509, 1024, 65536))


@pytest.mark.parametrize("levels", [[5, 5], [8, 6, 5], [4, 4], [2, 3]])
def test_fsq_reaches_every_code_and_gives_it_back(levels):
    size = math.prod(levels)
    quantizer = build("fsq", codebook_size=size, codebook_dim=len(levels), fsq_levels=levels)
    assert not quantizer.state_dict()
    evenly = 2 * torch.rand(50, len(levels), 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    assert quantizer(evenly.mul(0.999).atanh()).codebook_usage == 1
    values = quantizer.code_vectors()
    assert values.abs().max() == 1 and len(values.unique(dim=0)) == size
    assert values[1, 0] != values[0, 0] and torch.equal(values[1, 1:], values[0, 1:]), "the first number varies fastest"


@pytest.mark.parametrize(
    "level, expected", [(5, [-2, -1, 0, 1, 2]), (4, [-2, -1, 0, 1]), (8, range(-4, 4)), (2, [-1, 0])]
)
def test_fsq_rounds_to_the_integers_of_the_paper(level, expected):
    quantizer = build("fsq", codebook_size=level, codebook_dim=1, fsq_levels=[level])
    grid = quantizer.to_grid(torch.linspace(-9, 9, 2001).view(1, 1, 1, -1))
    assert grid.round().unique().tolist() == list(expected)
    if level > 2:
        assert quantizer.to_grid(torch.zeros(1, 1, 1, 1)).abs().item() < 1e-6


def test_fsq_gradient_is_that_of_the_bounded_number():
    quantizer = build("fsq", codebook_size=5, codebook_dim=1, fsq_levels=[5])
    z_e = tensor([0.3]).view(1, 1, 1, 1).requires_grad_()
    quantizer(z_e).latents.sum().backward()
    half = 4 * 0.999 / 2
    assert z_e.grad.item() == pytest.approx(half * (1 - math.tanh(0.3) ** 2) / 2, rel=1e-5)


def test_fsq_projects_only_where_widths_differ():
    assert len(build("fsq", codebook_dim=64).state_dict()) == 4
    quantizer = build("fsq", codebook_dim=64).eval()
    assert quantizer.code_vectors().shape == (16, 64)
    assert quantizer(vectors(2, 64, 3, 5)).latents.shape == (2, 64, 3, 5)


def test_levels_that_do_not_make_the_codebook_are_refused():
    with pytest.raises(ValueError, match="product is `codebook_size` = 16"):
        build("fsq", fsq_levels=[5, 5])


# ---- gumbel ----------------------------------------------------------------------------------------------------------


def build_gumbel(**overrides):
    return QUANTIZERS["gumbel"](DVAEConfig(**{"codebook_size": 16, "codebook_dim": 4, **overrides}))


def test_gumbel_in_eval_is_the_likeliest_code():
    quantizer, logits = build_gumbel().eval(), vectors(2, 16, 3, 5)
    result = quantizer(logits)
    assert torch.equal(result.codes, logits.argmax(1))
    assert torch.equal(result.latents, quantizer.get_codebook_entry(result.codes))
    torch.testing.assert_close(quantizer.mix(F.one_hot(result.codes, 16).movedim(-1, 1).float()), result.latents)


def test_a_relaxed_sample_lies_between_the_codes_and_has_the_gradient_of_the_relaxation():
    quantizer, logits = build_gumbel().double(), vectors(2, 16, 3, 5, dtype=torch.float64).requires_grad_()
    generator = torch.Generator().manual_seed(5)
    noise = -(-torch.rand(2, 16, 3, 5, dtype=torch.float64, generator=generator).log()).log()
    expected = torch.einsum("bkhw,kd->bdhw", ((logits + noise) / 0.7).softmax(1), quantizer.embedding.weight)
    result = quantizer(logits, 0.7, None, torch.Generator().manual_seed(5))
    torch.testing.assert_close(result.latents, expected)
    (gradient,) = torch.autograd.grad(result.latents.square().sum(), logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), logits)[0])


def test_hard_samples_are_codes_drawn_from_q():
    logits = tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1).expand(20_000, 3, 1, 1)
    sample = gumbel_softmax(logits, 0.5, True, torch.Generator().manual_seed(0))
    assert torch.equal(sample.sum(1), torch.ones(20_000, 1, 1)) and set(sample.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(sample.mean((0, 2, 3)), tensor([0.0, 1.0, 2.0]).softmax(0), rtol=0, atol=0.015)


def test_hard_samples_have_the_gradient_of_soft_ones():
    logits, upstream = vectors(2, 5, 3, 3).requires_grad_(), vectors(2, 5, 3, 3, seed=1)
    soft, hard = (gumbel_softmax(logits, 0.9, h, torch.Generator().manual_seed(0)) for h in (False, True))
    expected = torch.autograd.grad((soft * upstream).sum(), logits)[0]
    torch.testing.assert_close(torch.autograd.grad((hard * upstream).sum(), logits)[0], expected)


def test_gumbel_under_autocast_stays_float32_inside():
    quantizer, logits = build_gumbel().eval(), vectors(2, 16, 3, 5).bfloat16()
    for hard in (None, False):  # the likeliest code, a relaxed draw
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = quantizer(logits, 0.5, hard, torch.Generator().manual_seed(0))
        assert result.latents.dtype == torch.bfloat16
        expected = quantizer(logits.float(), 0.5, hard, torch.Generator().manual_seed(0)).latents
        assert expected.dtype == torch.float32 and torch.equal(result.latents, expected.bfloat16())


@pytest.mark.parametrize("batch", [BATCH_TO_CONVOLVE - 1, BATCH_TO_CONVOLVE])
def test_a_mixture_of_codes_is_their_weighted_sum_with_its_gradients(batch):
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(batch, 5, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    sums = [(weights.permute(0, 2, 3, 1) @ vectors).permute(0, 3, 1, 2), mixture(weights, vectors)]
    assert ("Convolution" in type(sums[1].grad_fn).__name__) == (batch == BATCH_TO_CONVOLVE)
    torch.testing.assert_close(*sums, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad(each.square().sum(), (weights, vectors)) for each in sums]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)
