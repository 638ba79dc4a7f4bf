# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Muon for matrices and Adam for the rest act as one. Whole runs: test_checkpoints.py and test_figures.py."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from hf_autoencoders import VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.training.knobs import parse_arguments
from hf_autoencoders.training.optimizers import MuonWithAdam, build_optimizer, check_whole_matrices, split_for_muon


def mlp(seed: int = 0) -> VAEModel:
    torch.manual_seed(seed)
    return VAEModel(VAEConfig(image_size=8, num_channels=1, backbone="mlp", hidden_sizes=[20], latent_channels=3))


def optimizer_of(model: nn.Module, name: str) -> torch.optim.Optimizer:
    knobs = parse_arguments(["--model_type", "vae", "--optimizer", name]).training
    return build_optimizer(Accelerator(cpu=True), model, knobs)


def muon(model: nn.Module) -> MuonWithAdam:
    return optimizer_of(model, "muon")


def train(model: VAEModel, optimizer: MuonWithAdam, steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    for _ in range(steps):
        model(torch.rand(16, 1, 8, 8) * 2 - 1).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_step_of_muon_is_as_long_in_every_direction():
    """Singular values of a step are 0.2 sqrt(max(rows, columns)) lr, up to the rounding of 5 Newton-Schulz steps."""
    weight = nn.Parameter(torch.zeros(20, 64))
    optimizer = MuonWithAdam([weight], [], lr=0.1, weight_decay=0.0, adam={})
    weight.grad = torch.randn(20, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, 1, 20)[:, None]
    optimizer.step()
    sizes = torch.linalg.svdvals(weight.detach()) / (0.1 * 0.2 * 64**0.5)
    assert torch.linalg.cond(weight.grad) > 10
    assert sizes.min() >= 0.6 and sizes.max() <= 1.3


def test_biases_move_as_adamw_moves_them_and_matrices_do_not():
    both = {name: mlp() for name in ("muon", "adamw")}
    for name, model in both.items():
        train(model, optimizer_of(model, name), steps=1, seed=1)
    one, other = (model.encoder.out for model in both.values())
    torch.testing.assert_close(one.bias, other.bias)
    assert not torch.allclose(one.weight, other.weight)


def test_codebooks_convolutions_and_tied_heads_are_not_for_muon():
    model = VQVAEModel(
        VQVAEConfig(image_size=8, num_channels=1, quantizer="vq", backbone="resnet", block_out_channels=[32, 32])
    )
    matrices, others = split_for_muon(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(parameter)].split(".")[-2] for parameter in matrices} <= {"to_q", "to_k", "to_v", "0"}
    assert "quantize.embedding.weight" in {names[id(parameter)] for parameter in others}
    assert len(matrices) + len(others) == len(names)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.body, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)
            self.head.weight = self.embedding.weight

    tied = Tied()
    assert [id(parameter) for parameter in split_for_muon(tied)[0]] == [id(tied.body.weight)]
    size = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=False))
    layer = llama.model.layers[0]
    hidden = [*layer.self_attn.parameters(), *layer.mlp.parameters()]
    assert {id(parameter) for parameter in split_for_muon(llama)[0]} == {id(parameter) for parameter in hidden}


def test_a_learning_rate_of_nothing_moves_nothing():
    model = mlp()
    optimizer = muon(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, steps=2, seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened():
    """The schedule must reach it after loading, too: hence the other learning rate."""
    straight, broken = mlp(), mlp()
    optimizers = muon(straight), muon(broken)
    for model, optimizer in zip((straight, broken), optimizers, strict=True):
        train(model, optimizer, steps=3, seed=0)
    fresh = muon(broken)
    fresh.load_state_dict(copy.deepcopy(optimizers[1].state_dict()))
    for model, optimizer in ((straight, optimizers[0]), (broken, fresh)):
        for group in optimizer.param_groups:
            group["lr"] = 0.02
        train(model, optimizer, steps=3, seed=1)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, broken.state_dict()[name]), name


def test_it_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="this model has none"):
        muon(VQVAEModel(VQVAEConfig(image_size=8, num_channels=1, block_out_channels=[8, 8])))
    with pytest.raises(ValueError, match="takes no closure"):
        muon(mlp()).step(lambda: None)
    with pytest.raises(ValueError, match="needs whole matrices, and FSDP shards them"):
        check_whole_matrices(DistributedType.FSDP)
