# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The four as complete transformers models: loading, dtypes, devices, hidden states, compile, Trainer, adapters."""

import inspect
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_nets import NETS, images, make, trained
from torch import nn
from torch.utils.data import Dataset
from transformers import AutoModel, Trainer, TrainingArguments
from transformers.utils import output_capturing


every_net = pytest.mark.parametrize("net", NETS)
every_kind = pytest.mark.parametrize("net", ["ae-conv", "vae-resnet", "vqvae-ema", "dvae-dalle"])


def everything(model) -> dict[str, torch.Tensor]:
    """What the methods say that users call directly, without `forward`."""
    pixels = images(3, seed=1)
    encoded = model.encode(pixels)
    said = {"forward": model(pixels).reconstruction, "latents": encoded.latents}
    said["decoded"] = model.decode(encoded.latents).sample
    said["path"] = model.interpolate(pixels, pixels.flip(0), 3)
    if model.config.model_type != "ae":
        said["sample"] = model.sample(2, generator=torch.Generator().manual_seed(0))
    if hasattr(model, "get_image_tokens"):
        said["tokens"] = model.get_image_tokens(pixels)
        said["pixels"] = model.decode_image_tokens(said["tokens"].flatten(1))
        said["probabilities"] = model.get_codebook_probs(pixels, 1.0)
    return said


def assert_says_the_same(model, expected: dict[str, torch.Tensor]):
    for name, value in everything(model).items():
        # A matrix that lies elsewhere in memory may be multiplied in another order: the last bit is free.
        assert torch.allclose(value.double(), expected[name].double(), rtol=1e-5, atol=1e-5), name


# ---- starting values -------------------------------------------------------------------------------------------------


@every_net
def test_values_that_a_checkpoint_lacks_are_initialised_as_in_a_new_model(net, tmp_path):
    make(net).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = next(iter(tensors))
    save_file({kept: tensors[kept]}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == set(tensors) - {kept}
    torch.testing.assert_close(loaded.state_dict()[kept], tensors[kept])
    for name, fresh in make(net).state_dict().items():
        value = loaded.state_dict()[name]
        assert value.dtype == fresh.dtype and value.isfinite().all(), name
        if not fresh.is_floating_point() or name.endswith(("norm.weight", "norm.bias", "counts", "log_variance")):
            torch.testing.assert_close(value, fresh)
        elif fresh.numel() > 100:  # other draws of the same law
            assert value.std().item() == pytest.approx(fresh.std().item(), rel=0.3, abs=1e-9), name
        elif name != kept:
            assert value.abs().max() < 5, name  # memory that nobody set seldom is


@every_net
def test_a_model_made_on_meta_gets_every_tensor_from_the_checkpoint(net, tmp_path):
    model = trained(net)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert not [name for name, tensor in loaded.state_dict().items() if tensor.is_meta]
    assert {name for name, _ in loaded.named_buffers()} == {name for name, _ in model.named_buffers()}
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    trainable = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters()}  # nothing frozen that loading would thaw


# ---- dtypes ----------------------------------------------------------------------------------------------------------


@every_net
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_a_cast_model_keeps_its_codebook_in_float32_and_comes_back_as_it_was(net, dtype, tmp_path):
    model = trained(net)
    model.save_pretrained(tmp_path / "float32")
    cast = AutoModel.from_pretrained(tmp_path / "float32", dtype=dtype)
    for name, tensor in cast.state_dict().items():
        before = model.state_dict()[name]
        assert tensor.dtype == (before.dtype if name.startswith("quantize.") else dtype), name
        torch.testing.assert_close(tensor.to(before.dtype), before, rtol=1e-2, atol=1e-3)
    output = cast(images())
    assert output.loss.isfinite() and output.loss.dtype == torch.promote_types(dtype, torch.float32)
    assert output.reconstruction.dtype == dtype
    cast.save_pretrained(tmp_path / "cast")
    again = AutoModel.from_pretrained(tmp_path / "cast")
    assert all(torch.equal(value, again(images())[name]) for name, value in output.items())
    in_one_go = type(model)._from_config(model.config, dtype=dtype).eval()
    assert in_one_go(images()).loss.isfinite()


def test_the_fp32_islands_are_named_in_full():
    # A part of a name would also match tensors of a model that holds this one.
    assert make("vqvae-ema")._keep_in_fp32_modules_strict == {"quantize.embedding.weight", "quantize.state.counts"}
    assert make("ae-conv")._keep_in_fp32_modules_strict == set()


# ---- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net, offload_buffers", [*((net, False) for net in NETS), ("vqvae-ema", True)])
def test_every_child_may_live_on_the_disk(net, offload_buffers, tmp_path):
    model = trained(net)
    model.save_pretrained(tmp_path)
    device_map = {name: "disk" for name, child in model.named_children() if child.state_dict()}
    loaded = AutoModel.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload", offload_buffers=offload_buffers
    )
    assert all(parameter.is_meta for parameter in loaded.parameters())
    assert_says_the_same(loaded, everything(model))


@every_kind
def test_an_automatic_device_map_splits_between_blocks_only(net, tmp_path):
    model = trained(net)
    model.save_pretrained(tmp_path)
    assert_says_the_same(AutoModel.from_pretrained(tmp_path, device_map="auto"), everything(model))
    half = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) // 2
    split = AutoModel.from_pretrained(
        tmp_path, device_map="auto", max_memory={"cpu": half}, offload_folder=tmp_path / "offload"
    )
    assert set(split.hf_device_map.values()) == {"cpu", "disk"}
    assert "quantize" in split.hf_device_map or not hasattr(model, "quantize")
    assert_says_the_same(split, everything(model))


# ---- outputs ---------------------------------------------------------------------------------------------------------


@every_net
def test_hidden_states_are_the_first_block_s_input_and_each_block_s_output(net):
    model, pixels = trained(net), images()
    output = model(pixels, output_hidden_states=True)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    assert list(output)[-1] == "hidden_states" and model(pixels).hidden_states is None
    seen = []
    for module in model.encoder.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.register_forward_hook(lambda module, args, result: seen.append((args[0], result)))
    model(pixels)
    expected = [seen[0][0], *(result for _, result in seen)]
    assert all(torch.equal(a, b) for a, b in zip(output.hidden_states, expected, strict=True))
    if hasattr(output_capturing, "resolve_hidden_states_indices"):  # before 5.23 an index meant a block
        assert torch.equal(model(pixels, output_hidden_states=[-1]).hidden_states[-1], output.hidden_states[-1])
    model.config.output_hidden_states = True
    assert len(model(pixels).hidden_states) == len(output.hidden_states)


@every_kind
def test_a_tuple_holds_what_the_output_holds(net):
    model, pixels = trained(net), images()
    named = model(pixels, output_hidden_states=True)
    for plain in (
        model(pixels, return_dict=False, output_hidden_states=True),
        model(pixels, None, True, False, True),  # by position
    ):
        assert type(plain) is tuple
        assert all(torch.equal(a, b) for a, b in zip(plain[:-1], list(named.values())[:-1], strict=True))
    assert type(model.encode(pixels, return_dict=False)) is tuple
    assert torch.equal(model.decode(model.encode(pixels).latents, return_dict=False)[0], model.reconstruct(pixels))
    model.config.return_dict = False
    assert type(model(pixels)) is tuple and torch.equal(model(pixels, return_dict=True).loss, named.loss)
    assert torch.equal(model.reconstruct(pixels), named.reconstruction)


@every_kind
def test_forward_names_its_arguments_and_takes_no_other(net):
    model = make(net)
    parameters = list(inspect.signature(model.forward).parameters.values())
    assert [p.name for p in parameters[:5]] == [
        "pixel_values", "generator", "return_loss", "return_dict", "output_hidden_states",
    ]  # fmt: skip
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[5:])
    assert not any("label" in p.name for p in parameters)  # Trainer would wait for them before it gives a loss
    with pytest.raises(TypeError, match="classes"):
        model(images(), classes=torch.zeros(8))
    torch.manual_seed(0)
    expected = model.eval()(images()).loss
    assert torch.equal(model(images(), labels=torch.zeros(8)).loss, expected)  # every column of a data set may come


@every_kind
def test_the_input_layer_can_be_read_and_replaced(net):
    model = make(net)
    assert model.get_input_embeddings().weight.shape[1] == 1  # pixels of one channel
    wider = nn.Conv2d(1, model.config.block_out_channels[0], 1)
    model.set_input_embeddings(wider)
    assert model.get_input_embeddings() is wider and wider in list(model.encoder.modules())
    assert model.get_output_embeddings() is None


# ---- the importance weighted bound -----------------------------------------------------------------------------------


def test_the_importance_weighted_loss_decodes_k_samples_once():
    model = make("vae-resnet", num_importance_samples=3)
    decoded = []
    model.decoder.register_forward_hook(lambda module, args, output: decoded.append(len(output)))
    output = model(images(4), generator=torch.Generator().manual_seed(0))
    assert decoded == [12]
    assert output.reconstruction.shape == (4, 1, 8, 8) and len(output.latents) == 4
    torch.testing.assert_close(model.decode(output.latents).sample, output.reconstruction)
    generator = torch.Generator().manual_seed(0)
    posterior = model.encode(images(4).repeat_interleave(3, 0)).latent_dist
    weights = model.log_importance_weights(posterior, images(4).repeat_interleave(3, 0), generator).view(4, 3)
    best = weights.amax(1, keepdim=True)
    torch.testing.assert_close(output.loss, -(best.squeeze(1) + (weights - best).exp().mean(1).log()).mean())


# ---- Trainer and adapters --------------------------------------------------------------------------------------------


class Pictures(Dataset):
    """With a column of labels, which a data set of pictures often has and no autoencoder reads."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"pixel_values": images(1, seed=index)[0], "labels": index % 2}


def trainer(model, folder, **arguments) -> Trainer:
    arguments = {"max_steps": 2, "per_device_train_batch_size": 4, "report_to": [], "disable_tqdm": True, **arguments}
    options = TrainingArguments(output_dir=str(folder), use_cpu=True, logging_steps=1, save_strategy="no", **arguments)
    return Trainer(model=model, args=options, train_dataset=Pictures(), eval_dataset=Pictures())


@every_kind
def test_trainer_trains_and_evaluates_without_special_code(net, tmp_path):
    model = make(net)
    before = model.get_input_embeddings().weight.clone()
    loop = trainer(model, tmp_path)
    loop.train()
    assert not torch.equal(model.get_input_embeddings().weight, before)
    pixels = torch.stack([Pictures()[index]["pixel_values"] for index in range(16)])
    assert loop.evaluate()["eval_loss"] == pytest.approx(model.eval()(pixels).loss.item(), rel=1e-4)
    predictions = loop.predict(Pictures()).predictions
    names = [name for name in model(pixels) if name not in ("loss", *model.config.keys_to_ignore_at_inference)]
    assert len(predictions) == len(names)
    torch.testing.assert_close(torch.tensor(predictions[names.index("reconstruction")]), model(pixels).reconstruction)


def test_trainer_logs_the_same_loss_whatever_the_accumulation(tmp_path):
    losses = []
    for steps in (1, 4):
        batch = {"per_device_train_batch_size": 16 // steps, "gradient_accumulation_steps": steps}
        loop = trainer(make("ae-conv"), tmp_path, max_steps=1, **batch)
        loop.train()
        losses.append(loop.state.log_history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_trainer_checkpoint_brings_the_moving_averages_back(tmp_path):
    model = make("vqvae-ema")
    loop = trainer(model, tmp_path, max_steps=3)
    loop.args.save_strategy = "steps"
    loop.train()
    loop.save_model(tmp_path / "saved")
    again = AutoModel.from_pretrained(tmp_path / "saved")
    assert again.quantize.state.steps == 3 and again.quantize.state.initialized
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("net", ["vqvae-vq", "dvae-dalle", "vae-resnet"])
def test_an_adapter_on_the_convolutions_trains_saves_and_loads(net, tmp_path):
    peft = pytest.importorskip("peft")
    base = trained(net)
    convolutions = [name for name, module in base.named_modules() if isinstance(module, nn.Conv2d)]
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=convolutions))
    frozen = {name: value.clone() for name, value in adapted.named_parameters() if "lora" not in name}
    adapted.train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # the first step moves B, which starts at zero, the second A
        adapted(pixel_values=images()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(value, frozen[name]) for name, value in adapted.named_parameters() if name in frozen)
    adapted.eval().save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(trained(net), tmp_path).eval()
    torch.testing.assert_close(loaded(pixel_values=images()).loss, adapted(pixel_values=images()).loss)
    assert not torch.equal(loaded(pixel_values=images()).loss, trained(net)(images()).loss)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"


@pytest.mark.parametrize("net", ["ae-mlp", "vqvae-vq"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_of_either_kind_reaches_every_parameter(net, reentrant):
    model = make(net)
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)  # renamed in 5.23
    enable({"use_reentrant": reentrant})
    model(images()).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


# ---- what is no model of ours ----------------------------------------------------------------------------------------


def test_weights_of_another_model_are_refused(tmp_path):
    make("vqvae-ema").save_pretrained(tmp_path)
    save_file({"bert.pooler.weight": torch.zeros(3)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="another model's.*VQVAEModel.*bert.pooler.weight"):
        AutoModel.from_pretrained(tmp_path)
    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)  # who asks, judges for himself
    assert info["unexpected_keys"] == {"bert.pooler.weight"}


@pytest.mark.parametrize(
    "size, says", [(-1, "1..16777216, got -1"), ("many", "expected int, got str"), (10**12, "got 1000000000000")]
)
def test_a_saved_codebook_size_that_cannot_be_is_refused(size, says, tmp_path):
    make("vqvae-ema").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "codebook_size": size}))
    with pytest.raises(Exception, match="codebook_size") as caught:
        AutoModel.from_pretrained(tmp_path)
    assert says in str(caught.value)
