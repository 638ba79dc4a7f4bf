# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which product the look-up asks for is measured once, and changes no code."""

import pytest
import torch

from hf_autoencoders import VAEConfig, VAEModel
from hf_autoencoders.evaluation.likelihood import importance_bound
from hf_autoencoders.models import cpu_products, nearest_codes
from hf_autoencoders.models.cpu_products import by_onednn, by_torch, fastest_product


needs_onednn = pytest.mark.skipif(not cpu_products.has_onednn(), reason="this build of torch has no oneDNN")


@pytest.fixture
def nothing_chosen(monkeypatch):
    monkeypatch.setattr(cpu_products, "chosen", {})
    monkeypatch.setattr(cpu_products, "mkl_is_slow", lambda: False)


def drawn(rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def cases() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name -> vectors (N, D), codes (K, D): ties, margins below rounding, and numbers of every size."""
    z, codes = drawn(300, 24, 0), drawn(500, 24, 1)
    sizes = 10.0 ** torch.linspace(-15, 15, 300)[:, None]
    broken = z.clone()
    broken[::7, 3] = torch.nan
    broken[::11, 5] = torch.inf
    return {
        "drawn": (z, codes),
        "each code twice": (z, codes[:250].repeat(2, 1)),
        "vectors that are codes": (codes[:300], codes),
        "midway between two codes": ((codes[:250] + codes[250:]) / 2, codes),
        "codes that differ in the last bit": (z, torch.cat([codes, codes * (1 + 2**-23)])),
        "a common offset": (z + 1e4, codes + 1e4),
        "tiny": (z * 1e-18, codes * 1e-18),
        "huge": (z * 1e18, codes * 1e18),
        "vectors of all sizes": (z * sizes, codes),
        "codes of all sizes": (z, codes * 10.0 ** torch.linspace(-15, 15, 500)[:, None]),
        "not finite": (broken, codes),
        "one code": (z, codes[:1]),
    }


@needs_onednn
@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_both_products_find_the_same_codes(name, precision, monkeypatch):
    latents, codebook = cases()[name]
    found = []
    for product in (by_torch, by_onednn):
        monkeypatch.setattr(nearest_codes, "fastest_product", lambda rows, codes, product=product: product)
        torch.set_float32_matmul_precision(precision)
        try:
            found.append(nearest_codes.nearest_codes(latents, codebook))
        finally:
            torch.set_float32_matmul_precision("highest")
    whole = latents.isfinite().all(1)
    assert torch.equal(found[0][whole], found[1][whole])
    assert all(int(codes.min()) >= 0 and int(codes.max()) < len(codebook) for codes in found)


@pytest.mark.parametrize("name", cases())
def test_codes_that_are_screened_part_by_part_are_the_same(name, monkeypatch):
    latents, codebook = cases()[name]
    whole = nearest_codes.nearest_codes(latents, codebook)
    monkeypatch.setattr(nearest_codes, "CODES_AT_ONCE", 128)
    finite = latents.isfinite().all(1)
    in_parts = nearest_codes.nearest_codes(latents, codebook)
    assert torch.equal(in_parts[finite], whole[finite])
    assert int(in_parts.min()) >= 0 and int(in_parts.max()) < len(codebook)


@needs_onednn
def test_the_products_agree_to_rounding():
    offsets, rows, codes = drawn(1, 90, 2)[0], drawn(70, 33, 3), drawn(90, 33, 4)
    exact = offsets.double() + rows.double() @ codes.double().t()
    for product in (by_torch, by_onednn):
        torch.testing.assert_close(product(offsets, rows, codes).double(), exact, atol=1e-4, rtol=0)


@needs_onednn
@pytest.mark.parametrize("seconds, wins", [((0.5, 1.0), by_onednn), ((0.95, 1.0), by_torch), ((2.0, 1.0), by_torch)])
def test_a_class_of_shapes_is_measured_once(seconds, wins, monkeypatch, nothing_chosen):
    measured = []
    monkeypatch.setattr(cpu_products, "shortest_times", lambda *given: measured.append(given) or list(seconds))
    rows, codes = torch.zeros(1024, 32), torch.zeros(1024, 32)
    assert fastest_product(rows, codes) is wins
    assert fastest_product(rows[:-100], codes) is wins and len(measured) == 2  # 924 rows are another class
    assert fastest_product(rows[:-200], codes) is wins and len(measured) == 2


@needs_onednn
def test_nothing_is_measured_where_mkl_is_known_to_be_slow(monkeypatch, nothing_chosen):
    monkeypatch.setattr(cpu_products, "mkl_is_slow", lambda: True)
    assert fastest_product(torch.zeros(1024, 32), torch.zeros(1024, 32)) is by_onednn and not cpu_products.chosen


@pytest.mark.parametrize(
    "rows, codes",
    [(torch.zeros(8, 16), torch.zeros(8, 16)), (torch.zeros(1024, 16).double(), torch.zeros(1024, 16).double())],
)
def test_small_and_float64_products_are_not_measured(rows, codes, nothing_chosen):
    assert fastest_product(rows, codes) is by_torch and not cpu_products.chosen


def test_a_torch_without_onednn_multiplies_by_itself(monkeypatch, nothing_chosen):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fastest_product(torch.zeros(1024, 64), torch.zeros(1024, 64)) is by_torch


@needs_onednn
def test_measuring_takes_the_shortest_of_rounds_in_turns(monkeypatch):
    clock, calls = iter(range(100)), []
    monkeypatch.setattr(cpu_products.time, "perf_counter", lambda: next(clock))
    products = [lambda *_: calls.append("a"), lambda *_: (calls.append("b"), next(clock))]
    assert cpu_products.shortest_times(products, torch.zeros(2, 2), torch.zeros(2, 2)) == [1, 2]
    assert calls == ["a", "b"] * (cpu_products.ROUNDS + 1)


# -- linear layers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_mkl(monkeypatch):
    """As on a CPU whose MKL is slow, for products of every size."""
    monkeypatch.setattr(cpu_products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(cpu_products, "WORTH_ANOTHER_LIBRARY", 0)


def three(rows: int = 7, wide: int = 5, out: int = 3) -> list[torch.Tensor]:
    """Rows, weight and bias that want gradients."""
    return [drawn(*shape, seed).requires_grad_() for shape, seed in (((rows, wide), 0), ((out, wide), 1))] + [
        drawn(1, out, 2)[0].requires_grad_()
    ]


@needs_onednn
def test_a_linear_map_by_onednn_has_the_values_and_gradients_of_torch_s(slow_mkl):
    seen = []
    for map in (cpu_products.linear_map, torch.nn.functional.linear):
        tensors = three()
        result = map(*tensors)
        seen.append([result.detach(), *torch.autograd.grad(result.square().sum(), tensors)])
    assert type(cpu_products.linear_map(*three()).grad_fn).__name__ == "OneDNNLinearMapBackward"
    for ours, torch_s in zip(*seen, strict=True):
        torch.testing.assert_close(ours, torch_s)


@needs_onednn
def test_only_the_gradients_that_are_wanted_are_computed(slow_mkl):
    rows, weight, bias = three()
    cpu_products.linear_map(rows.detach(), weight, bias.detach()).sum().backward()
    assert rows.grad is None and bias.grad is None and weight.grad.shape == weight.shape


@needs_onednn
def test_gradients_of_gradients_are_those_of_torch(slow_mkl):
    seen = []
    for map in (cpu_products.linear_map, torch.nn.functional.linear):
        rows, weight, bias = three()
        (slope,) = torch.autograd.grad(map(rows, weight, bias).tanh().sum(), rows, create_graph=True)
        seen.append(torch.autograd.grad(slope.square().sum(), (rows, weight, bias)))
    for ours, torch_s in zip(*seen, strict=True):
        torch.testing.assert_close(ours, torch_s)


def test_graphs_transforms_and_other_precisions_keep_torch_s_product(slow_mkl):
    rows, weight, bias = (tensor.detach() for tensor in three())
    suits = cpu_products.onednn_suits
    assert suits(rows, weight, bias)
    assert not suits(rows.double(), weight.double(), bias.double())
    assert not suits(rows[None], weight, bias)
    assert not suits(*(tensor.to("meta") for tensor in (rows, weight, bias)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(rows, weight, bias)
    asked = []
    torch.func.grad(lambda w: (asked.append(suits(rows, w, bias)), (rows @ w.t()).sum())[1])(weight)
    assert asked == [False]


@needs_onednn
@pytest.mark.parametrize("vendor, capability, slow", [
    ("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False),
])  # fmt: skip
def test_mkl_is_slow_on_amd_s_cpus_with_avx_512(vendor, capability, slow, monkeypatch):
    monkeypatch.setattr(cpu_products, "name_of_cpu", lambda: f"vendor_id : {vendor}")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert cpu_products.mkl_is_slow.__wrapped__() is slow


@needs_onednn
def test_a_vae_and_its_importance_bound_are_the_same_by_both_libraries(monkeypatch):
    torch.manual_seed(0)
    config = VAEConfig(image_size=8, num_channels=1, backbone="mlp", hidden_sizes=(32,), latent_channels=4)
    model, pixels = VAEModel(config).eval(), torch.rand(2, 1, 8, 8) * 2 - 1
    bounds, gradients = [], []
    for worth in (2**62, 0):
        monkeypatch.setattr(cpu_products, "mkl_is_slow", lambda: True)
        monkeypatch.setattr(cpu_products, "WORTH_ANOTHER_LIBRARY", worth)
        bounds.append(importance_bound(model, pixels, 1000, torch.Generator().manual_seed(1)))
        loss = model(pixels, generator=torch.Generator().manual_seed(2)).loss
        gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    torch.testing.assert_close(*bounds)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
