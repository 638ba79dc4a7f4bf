# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Image model and language model in one, as a complete transformers model: it keeps what the four autoencoders keep."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_transformers_contract import Pictures, images, trained, trainer
from transformers import AutoModel, LlamaConfig

from hf_autoencoders.models.configuration_image_token_lm import ImageTokenLMConfig
from hf_autoencoders.models.modeling_image_token_lm import ImageTokenLM
from hf_autoencoders.priors.autoregressive import build_prior
from hf_autoencoders.priors.sequences import ImageTokenSequencer


ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "vqvae-ema and llama": ("vqvae-ema", "llama"),
    "vqvae-residual and gpt2": ("vqvae-residual", "gpt2"),
    "dvae and llama": ("dvae-dalle", "llama"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str = "vqvae-ema and llama") -> ImageTokenLM:
    """A model whose codebook has seen data, in eval mode."""
    net, architecture = KINDS[kind]
    image_model = trained(net)
    sequencer = ImageTokenSequencer.for_model(image_model, num_classes=3, class_dropout=0.1)
    prior = build_prior(sequencer, architecture, hidden_size=16, num_layers=2, num_heads=2)
    return ImageTokenLM.from_parts(image_model, prior, num_classes=3, class_dropout=0.1)


def everything(model) -> dict[str, torch.Tensor]:
    """What the methods say that users call."""
    pixels, classes = images(3, seed=1), torch.tensor([0, 2, 1])
    output = model(pixels, classes)
    drawn = model.generate_images([1, 2], generator=torch.Generator().manual_seed(0), guidance_scale=1.5)
    return {"loss": output.loss, "logits": output.logits, "tokens": output.image_tokens, "drawn": drawn}


def assert_says_the_same(model, expected):
    for name, value in everything(model).items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-5, msg=name)


@every_kind
def test_it_is_saved_and_loaded_whole(kind, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is ImageTokenLM and not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert_says_the_same(loaded, everything(model))


def test_values_that_a_checkpoint_lacks_are_initialised_by_the_parts_own_rules(tmp_path):
    make().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.0" in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = AutoModel.from_pretrained(tmp_path)
    for name, tensor in loaded.state_dict().items():
        assert tensor.isfinite().all() and tensor.float().abs().max() < 5, name
    assert loaded.language_model.model.norm.weight.eq(1).all()
    assert loaded.language_model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert loaded.image_model.encoder.get_submodule(loaded.image_model.encoder.input_layer).weight.std() > 0.05


@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_cast_model_keeps_the_codebook_and_its_state_as_they_were(kind, dtype, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path / "float32")
    cast = AutoModel.from_pretrained(tmp_path / "float32", dtype=dtype)
    for name, tensor in cast.state_dict().items():
        before = model.state_dict()[name]
        assert tensor.dtype == (before.dtype if name.startswith("image_model.quantize.") else dtype), name
    assert cast(images()).loss.isfinite() and cast.generate_images([1]).shape == (1, 1, 8, 8)
    cast.save_pretrained(tmp_path / "cast")
    again = AutoModel.from_pretrained(tmp_path / "cast")
    assert all(tensor.dtype == cast.state_dict()[name].dtype for name, tensor in again.state_dict().items())
    state = {name: tensor for name, tensor in again.state_dict().items() if ".quantize." in name}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())


@every_kind
@pytest.mark.parametrize("parts", [["image_model", "language_model"], ["image_model"], ["language_model"]], ids=str)
def test_both_parts_may_live_on_the_disk(kind, parts, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path)
    device_map = {name: "disk" if name in parts else "cpu" for name in ("image_model", "language_model")}
    loaded = AutoModel.from_pretrained(tmp_path, device_map=device_map, offload_folder=tmp_path / "offload")
    assert {parameter.is_meta for part in parts for parameter in getattr(loaded, part).parameters()} == {True}
    assert_says_the_same(loaded, everything(model))


def test_an_automatic_device_map_splits_it(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    half = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) // 2
    split = AutoModel.from_pretrained(
        tmp_path, device_map="auto", max_memory={"cpu": half}, offload_folder=tmp_path / "offload"
    )
    assert set(split.hf_device_map.values()) == {"cpu", "disk"}
    assert_says_the_same(split, everything(model))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_attention_implementation_reaches_the_language_model(implementation, tmp_path):
    make().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, attn_implementation=implementation)
    assert loaded.language_model.config._attn_implementation == implementation
    assert loaded.language_model.model.layers[0].self_attn.config._attn_implementation == implementation
    assert_says_the_same(loaded, everything(make()))
    loaded.set_attn_implementation("eager")
    assert loaded.language_model.config._attn_implementation == "eager"


@every_kind
def test_hidden_states_and_attentions_are_the_language_model_s(kind, tmp_path):
    make(kind).save_pretrained(tmp_path)
    model, pixels = AutoModel.from_pretrained(tmp_path, attn_implementation="eager"), images()
    output = model(pixels, output_hidden_states=True, output_attentions=True)
    length = model.config.token_ids.num_tokens
    assert [state.shape for state in output.hidden_states] == [(8, length, 16)] * 3
    assert [weights.shape for weights in output.attentions] == [(8, 2, length, length)] * 2
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(8, 2, length))
    assert list(output)[-2:] == ["hidden_states", "attentions"]
    assert model(pixels).hidden_states is None and model(pixels).attentions is None
    model.config.output_hidden_states = True
    assert len(model(pixels).hidden_states) == 3


def test_a_tuple_holds_what_the_output_holds():
    model, pixels = make(), images()
    named, plain = model(pixels), model(pixels, return_dict=False)
    assert type(plain) is tuple and all(torch.equal(a, b) for a, b in zip(plain, named.values(), strict=True))
    without = model(pixels, return_loss=False)
    assert without.loss is None and torch.equal(without.logits, named.logits)


def test_forward_names_its_arguments():
    names = list(inspect.signature(ImageTokenLM.forward).parameters)[1:]
    assert names[:5] == ["pixel_values", "classes", "return_loss", "return_dict", "output_hidden_states"]
    assert not any("label" in name for name in names)  # Trainer would wait for them before it gives a loss


def test_trainer_trains_the_language_model_alone_and_evaluates(tmp_path):
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loop = trainer(model, tmp_path)
    loop.train()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("image_model."), name
    pixels = torch.stack([Pictures()[index]["pixel_values"] for index in range(16)])
    assert loop.evaluate()["eval_loss"] == pytest.approx(model.eval()(pixels).loss.item(), rel=1e-4)
    assert loop.predict(Pictures()).predictions.shape == tuple(model(pixels).logits.shape)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_reaches_every_parameter_that_trains(reentrant, tmp_path):
    make().save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path).train()
    assert not model.image_model.training and model.language_model.training
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if name.startswith("language_model.")}
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    model(images(), torch.zeros(8, dtype=torch.int64)).loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith("image_model.")}


def test_forward_is_one_graph():
    model, pixels = make(), images()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for classes in (None, torch.arange(8) % 3):
        torch.testing.assert_close(compiled(pixels, classes).loss, model(pixels, classes).loss)


def test_an_adapter_on_the_language_model_trains_saves_and_loads(tmp_path):
    peft = pytest.importorskip("peft")
    adapted, pixels = peft.get_peft_model(make(), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])), images()
    optimizer = torch.optim.SGD([p for p in adapted.train().parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step moves B, which starts at zero, the second A
        adapted(pixel_values=pixels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.eval().save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make(), tmp_path).eval()
    torch.testing.assert_close(loaded(pixel_values=pixels).loss, adapted(pixel_values=pixels).loss)
    assert not torch.equal(loaded(pixel_values=pixels).loss, make()(pixels).loss)


TWO_PROCESSES = """
import sys
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModel
import hf_autoencoders
from hf_autoencoders.training.launch import leave_process_groups

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
model = AutoModel.from_pretrained(sys.argv[1]).train()
getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()  # renamed in 5.23
wrapped = DistributedDataParallel(model, broadcast_buffers=False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
pixels = torch.load(sys.argv[2])
for _ in range(3):
    optimizer.zero_grad()
    wrapped(pixels[4 * rank : 4 * rank + 4]).loss.backward()
    optimizer.step()
if rank == 0:
    torch.save(model.state_dict(), sys.argv[3])
torch.distributed.barrier()
del wrapped
leave_process_groups()
"""


def test_two_processes_with_activation_checkpointing_train_like_one(tmp_path):
    model, pixels = make(), images()
    model.save_pretrained(tmp_path / "model")
    torch.save(pixels, tmp_path / "pixels.pt")
    (tmp_path / "run.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [tmp_path / "run.py", tmp_path / "model", tmp_path / "pixels.pt", tmp_path / "two.pt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    optimizer = torch.optim.SGD([p for p in model.train().parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(pixels).loss.backward()
        optimizer.step()
    for name, tensor in torch.load(tmp_path / "two.pt").items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_config_that_cannot_be_is_refused():
    llama = LlamaConfig(vocab_size=512 + 2 + 2, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(Exception, match="1 `class_names` do not name 2 classes"):
        ImageTokenLM(ImageTokenLMConfig(num_classes=2, language_model=llama, class_names=["cat"]))
