# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""1x1 convolutions, projections and attention give by either library what torch gives."""

import pytest
import torch
import torch.nn.functional as F
from small_nets import NETS, images, trained

from hf_autoencoders.models import cpu_products
from hf_autoencoders.models.blocks_dalle import DalleConv2d
from hf_autoencoders.models.cpu_products import attention
from hf_autoencoders.models.pointwise import PointwiseConv2d, PointwiseLinear


needs_onednn = pytest.mark.skipif(not cpu_products.has_onednn(), reason="this build of torch has no oneDNN")


@pytest.fixture(autouse=True)
def by_onednn(monkeypatch):
    """As on a CPU whose MKL is slow, for products of every size; whether oneDNN was asked."""
    asked = []
    product = torch.ops.mkldnn._linear_pointwise if cpu_products.has_onednn() else None
    monkeypatch.setattr(cpu_products, "mkl_is_slow", cpu_products.has_onednn)
    monkeypatch.setattr(cpu_products, "WORTH_ANOTHER_LIBRARY", 0)
    monkeypatch.setattr(
        cpu_products.torch.ops.mkldnn, "_linear_pointwise", lambda *given: asked.append(1) or product(*given)
    )
    return asked


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def map_of(last: bool) -> torch.Tensor:
    """(2, 6, 5, 4) in either order in memory."""
    return drawn(2, 6, 5, 4).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@needs_onednn
@pytest.mark.parametrize("layer", [PointwiseConv2d, DalleConv2d])
def test_a_1x1_convolution_of_channels_last_is_a_linear_map_with_its_gradients(layer, by_onednn):
    conv, x = layer(6, 3, 1), map_of(last=True).requires_grad_()
    tensors = [x, conv.weight, conv.bias]
    ours, torch_s = conv(x), F.conv2d(*tensors)
    assert by_onednn and ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, torch_s)
    gradients = [torch.autograd.grad(result.square().sum(), tensors) for result in (ours, torch_s)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("case", ["contiguous", "float64", "autocast", "transform", "empty"])
def test_any_other_1x1_convolution_is_torch_s_own(case, by_onednn):
    conv, x = PointwiseConv2d(6, 3, 1), map_of(last=case != "contiguous")
    if case == "float64":
        conv, x = conv.double(), x.double()
    x = x[:0] if case == "empty" else x
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"), torch.no_grad():
        ours = torch.vmap(conv)(x[:, None])[:, 0] if case == "transform" else conv(x)
        assert torch.equal(ours, F.conv2d(x, conv.weight, conv.bias)) and not by_onednn


@pytest.mark.parametrize("height, by_rows", [(3, True), (4, False)])  # 6 and 8 positions of 6 channels
def test_in_bfloat16_maps_smaller_than_the_weights_are_linear_maps(height, by_rows, monkeypatch):
    conv, convolved = PointwiseConv2d(6, 3, 1).bfloat16(), []
    x = drawn(1, 6, height, 2).bfloat16().contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x.float(), conv.weight.float(), conv.bias.float())
    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda *given: convolved.append(1) or forward(*given))
    with torch.no_grad():
        torch.testing.assert_close(conv(x).float(), expected, atol=0.02, rtol=0.02)
    assert (not convolved) == by_rows


@needs_onednn
def test_a_projection_is_torch_s_linear_map(by_onednn):
    linear, x = PointwiseLinear(6, 3), drawn(2, 5, 6)
    torch.testing.assert_close(linear(x), F.linear(x, linear.weight, linear.bias))
    assert by_onednn and linear(x).shape == (2, 5, 3)


@needs_onednn
def test_attention_by_onednn_is_torch_s(by_onednn):
    query, key, value = (drawn(2, 7, 6, seed=seed) for seed in range(3))
    expected = F.scaled_dot_product_attention(query, key, value)
    with torch.no_grad():
        torch.testing.assert_close(attention(query, key, value), expected)
    assert len(by_onednn) == 4  # two products a picture


@pytest.mark.parametrize("reason", ["gradient", "many positions", "float64", "no picture"])
def test_attention_is_torch_s_own_where_onednn_does_not_suit(reason, by_onednn, monkeypatch):
    tensors = [
        drawn(2, 7, 6, seed=seed).to(torch.float64 if reason == "float64" else torch.float32) for seed in range(3)
    ]
    if reason == "many positions":
        monkeypatch.setattr(cpu_products, "MOST_SCORES", 48)  # 7 x 7 are one more
    if reason == "no picture":
        tensors = [tensor[:0] for tensor in tensors]
    expected = F.scaled_dot_product_attention(*(tensor[:, None] for tensor in tensors))[:, 0]
    with torch.set_grad_enabled(reason == "gradient"):
        assert torch.equal(attention(*tensors), expected) and not by_onednn


@pytest.mark.parametrize("net", [net for net in NETS if net.startswith(("vqvae", "dvae"))])
def test_image_tokens_are_those_of_encode(net):
    model = trained(net)
    assert torch.equal(model.get_image_tokens(images()), model.encode(images()).image_tokens)
