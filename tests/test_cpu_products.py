# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which product the look-up asks for is measured once, and changes no code."""

import pytest
import torch

from hf_autoencoders import VAEConfig, VAEModel
from hf_autoencoders.evaluation.likelihood import importance_bound
from hf_autoencoders.models import cpu_products, nearest_codes
from hf_autoencoders.models.cpu_products import FastestLinearMaps, by_onednn, by_torch, fastest_product


needs_onednn = pytest.mark.skipif(not cpu_products.has_onednn(), reason="this build of torch has no oneDNN")


@pytest.fixture
def nothing_chosen(monkeypatch):
    monkeypatch.setattr(cpu_products, "chosen", {})


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


@pytest.fixture
def products_asked(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of which the fastest product is asked; oneDNN's is the answer."""
    asked = []

    def always_onednn(rows, codes):
        asked.append((*rows.shape, len(codes)))
        return by_onednn

    monkeypatch.setattr(cpu_products, "fastest_product", always_onednn)
    return asked


@needs_onednn
def test_linear_layers_without_gradient_take_the_fastest_product_where_that_was_asked(products_asked):
    layer, rows = torch.nn.Linear(5, 3), drawn(4, 5, 0)
    with torch.no_grad():
        before = layer(rows)
        with FastestLinearMaps():
            torch.testing.assert_close(layer(rows), before)
        assert torch.equal(layer(rows), before)
    assert products_asked == [(4, 5, 3)]


def test_what_has_a_gradient_or_another_form_keeps_torch_s_product(products_asked):
    layer, rows = torch.nn.Linear(5, 3), drawn(4, 5, 0)
    with FastestLinearMaps():
        layer(rows).sum().backward()
        with torch.no_grad():
            layer(rows[None])
            torch.nn.Linear(5, 3, bias=False)(rows)
            torch.nn.functional.linear(rows, weight=layer.weight, bias=layer.bias)
            with torch.autocast("cpu", torch.bfloat16):
                assert layer(rows).dtype == torch.bfloat16
            torch.func.vmap(layer)(rows[None])
    assert layer.weight.grad is not None and not products_asked


@needs_onednn
def test_the_importance_bound_asks_for_the_fastest_product_and_stays_the_same(products_asked, monkeypatch):
    torch.manual_seed(0)
    config = VAEConfig(image_size=8, num_channels=1, backbone="mlp", hidden_sizes=(32,), latent_channels=4)
    model, pixels = VAEModel(config).eval(), torch.rand(2, 1, 8, 8) * 2 - 1
    fast = importance_bound(model, pixels, 1000, torch.Generator().manual_seed(1))
    assert {(1000, 4, 32), (1000, 32, 64)} <= set(products_asked)
    monkeypatch.setattr(cpu_products, "fastest_product", lambda rows, codes: by_torch)
    torch.testing.assert_close(fast, importance_bound(model, pixels, 1000, torch.Generator().manual_seed(1)))
