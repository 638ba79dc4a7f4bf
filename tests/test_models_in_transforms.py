# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Models where no value can be read (meta, fake tensors, vmap, graphs), in 8-bit storage, and on unusual input."""

import io

import numpy
import pytest
import torch
from small_nets import NETS, images, make, trained
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, Trainer, TrainingArguments

from hf_autoencoders import VAEConfig, VAEModel


every_net = pytest.mark.parametrize("net", NETS)
with_tokens = pytest.mark.parametrize("net", ["vqvae-ema", "vqvae-fsq", "vqvae-residual", "dvae-dalle"])


# ---- Where no value can be read --------------------------------------------------------------------------------------


@every_net
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_step_with_a_loss_runs_on_the_meta_device(net, mode):
    with torch.device("meta"):
        model = make(net).train(mode == "train")
    output = model(images().to("meta"))
    assert output.loss.is_meta and output.reconstruction.shape == (8, 1, 8, 8)
    output.loss.backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())


@every_net
def test_a_step_with_a_loss_runs_on_fake_tensors(net):
    with FakeTensorMode():
        model = make(net)
        output = model(torch.zeros(4, 1, 8, 8))
        output.loss.backward()
    assert output.reconstruction.shape == (4, 1, 8, 8)


@every_net
def test_gradients_of_each_sample_are_those_of_one_at_a_time(net):
    model = trained(net)
    before = {name: value.clone() for name, value in model.named_buffers()}
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, picture):
        return torch.func.functional_call(model, parameters, (picture[None],)).loss

    for mode in (True, False):  # in training, a codebook holds still: there are as many of it as samples
        model.train(mode)
        gradients = torch.func.vmap(torch.func.grad(loss), (None, 0), randomness="different")(parameters, images(3))
    model.zero_grad()
    model(images(3)[1:2]).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name][1], parameter.grad, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@every_net
def test_a_whole_forward_with_its_loss_is_exported_saved_and_loaded(net):
    model, file = trained(net), io.BytesIO()
    torch.export.save(torch.export.export(model, (images(),)), file)
    file.seek(0)
    again = torch.export.load(file).module()(images())
    torch.testing.assert_close(again.loss, model(images()).loss)


@with_tokens
def test_a_compiled_decode_refuses_a_token_outside_the_codebook(net):
    model = trained(net)
    tokens = model.get_image_tokens(images())
    torch.compiler.reset()
    decode = torch.compile(model.decode_image_tokens, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(decode(tokens), model.decode_image_tokens(tokens))
    for wrong in (16, -1):
        with pytest.raises(RuntimeError, match=r"0\.\.15"):
            decode(torch.full_like(tokens, wrong))


# ---- 8-bit storage ---------------------------------------------------------------------------------------------------


@every_net
@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_stored_in_8_bits_compute_in_the_dtype_that_was_asked_for(net, compute_dtype):
    hooks = pytest.importorskip("diffusers.hooks")
    model = trained(net).to(compute_dtype)
    expected = model(images())
    hooks.apply_layerwise_casting(model, storage_dtype=torch.float8_e4m3fn, compute_dtype=compute_dtype)
    assert any(parameter.dtype == torch.float8_e4m3fn for parameter in model.parameters())
    output = model(images())
    assert output.reconstruction.dtype == compute_dtype
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=0.1)
    if hasattr(model, "quantize"):
        assert all(value.itemsize >= 4 for value in model.quantize.state_dict().values() if value.is_floating_point())


# ---- Unusual input ---------------------------------------------------------------------------------------------------


@every_net
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_pixels_that_are_no_floats_are_refused_with_the_cure(net, dtype):
    model = make(net)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for method in (model, model.encode, model.reconstruct):
        with pytest.raises(ValueError, match=r"floats in \[-1, 1\], got torch.*image processor"):
            method(torch.ones(2, 1, 8, 8).to(dtype))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_net
def test_an_empty_batch_is_refused_before_any_state_moves(net):
    model = make(net)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="at least one picture"):
        model(torch.zeros(0, 1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@with_tokens
def test_tokens_may_be_nested_lists_or_numpy_arrays(net):
    model = trained(net)
    tokens = model.get_image_tokens(images(2))
    expected = model.decode_image_tokens(tokens)
    arrays = [tokens.numpy().astype(dtype) for dtype in (numpy.uint8, numpy.uint16, numpy.int32, numpy.int64)]
    for given in (tokens.tolist(), tokens.flatten(1).tolist(), *arrays):
        assert torch.equal(model.decode_image_tokens(given), expected)


def test_float_latents_may_be_numpy_arrays():
    model = trained("ae-conv")
    latents = model.encode(images()).latents.detach()
    assert torch.equal(model.decode(latents.numpy()).sample, model.decode(latents).sample)


@every_net
def test_the_one_attention_implementation_may_be_named_at_load_time(net, tmp_path):
    trained(net).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert torch.equal(model(images()).loss, trained(net)(images()).loss)


def test_a_model_of_another_type_is_named(tmp_path):
    trained("vqvae-ema").save_pretrained(tmp_path)
    for load in (VAEModel.from_pretrained, VAEConfig.from_pretrained):
        with pytest.raises(ValueError, match="config of a vqvae, not of a vae.*AutoModel"):
            load(tmp_path)


# ---- Trainer and adapters --------------------------------------------------------------------------------------------


class WithColumns(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"pixel_values": images(1, seed=index)[0], "labels": index % 2}


def stock_trainer(model, folder, **arguments) -> Trainer:
    fields = {"max_steps": 3, "per_device_train_batch_size": 4, "report_to": [], "disable_tqdm": True}
    options = TrainingArguments(
        str(folder), use_cpu=True, save_strategy="no", remove_unused_columns=False, **{**fields, **arguments}
    )
    return Trainer(model=model, args=options, train_dataset=WithColumns(), eval_dataset=WithColumns())


@pytest.mark.parametrize("net", ["vqvae-ema", "vqvae-vq", "vqvae-residual"])
def test_accumulated_micro_batches_move_the_codebook_once_a_step(net, tmp_path):
    clocks = []
    for parts in (1, 4):
        model = make(net).double()
        model(images().double())  # the codebook is there: each run would start from another first micro-batch
        batches = {"per_device_train_batch_size": 16 // parts, "gradient_accumulation_steps": parts}
        stock_trainer(DoublePixels(model), tmp_path, learning_rate=0.0, **batches).train()
        clocks.append(model.quantize.state_dict())
    for name, expected in clocks[0].items():
        torch.testing.assert_close(clocks[1][name], expected, rtol=1e-9, atol=1e-9)
    assert all(value == 4 for name, value in clocks[1].items() if name.endswith("steps"))


class DoublePixels(torch.nn.Module):
    """The model on float64 pixels, whose sums do not depend on the order of the parts."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values, labels=None):
        return self.model(pixel_values.double(), labels=labels)


@pytest.mark.parametrize("net", ["ae-conv", "vae-resnet", "vqvae-ema", "dvae-dalle"])
def test_columns_that_no_model_reads_may_stay(net, tmp_path):
    loop = stock_trainer(make(net), tmp_path, max_steps=1)
    loop.train()
    assert "eval_loss" in loop.evaluate()


@pytest.mark.parametrize("net", ["vqvae-ema", "vqvae-vq", "vqvae-residual"])
@pytest.mark.parametrize("way", ["get_peft_model", "add_adapter"])
def test_a_reloaded_adapter_gives_the_model_that_was_trained(net, way, tmp_path):
    """Without a codebook copied by hand: under PEFT it holds still."""
    peft = pytest.importorskip("peft")
    base = trained(net)
    base.save_pretrained(tmp_path / "base")
    targets = [name for name, module in base.named_modules() if isinstance(module, torch.nn.Conv2d)]
    config = peft.LoraConfig(r=2, target_modules=targets)
    if way == "add_adapter":
        base.add_adapter(config)
        adapted = base
    else:
        adapted = peft.get_peft_model(base, config)
    adapted.train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        adapted(pixel_values=images(seed=step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.eval().save_pretrained(tmp_path / "adapter")
    again = AutoModel.from_pretrained(tmp_path / "base")
    if way == "add_adapter":
        again.load_adapter(str(tmp_path / "adapter"))
    else:
        again = peft.PeftModel.from_pretrained(again, tmp_path / "adapter")
    expected, output = adapted(pixel_values=images(seed=9)), again.eval()(pixel_values=images(seed=9))
    assert torch.equal(output.image_tokens, expected.image_tokens)
    torch.testing.assert_close(output.loss, expected.loss)
    assert not torch.equal(output.loss, trained(net)(images(seed=9)).loss)


# ---- Older files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ae-conv", "vae-resnet"])
def test_a_learned_variance_saved_without_dimension_still_loads(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    model = trained(kind, learned_variance=True)
    model.likelihood.log_variance.data.fill_(0.25)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    assert tensors["likelihood.log_variance"].shape == (1,)
    tensors["likelihood.log_variance"] = tensors["likelihood.log_variance"].reshape(()).clone()
    save_file(tensors, file, metadata={"format": "pt"})
    again = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(again.likelihood.log_variance, torch.tensor([0.25]))
    assert torch.equal(again(images()).loss, model(images()).loss)
    fresh = make(kind, learned_variance=True)
    fresh.load_state_dict(tensors)
    assert torch.equal(fresh.likelihood.log_variance, again.likelihood.log_variance)
