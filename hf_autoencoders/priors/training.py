# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A run of the one training loop for a prior: knobs, tokens, model, figures, and what it leaves.

image model + pictures -> tokens (in memory), or a data set of tokens
tokens + classes -> sequences -> language model -> nats per code
bits per dimension = (nats of the decoder + nats per code x codes) / (H W C ln 2)
"""

import argparse
import dataclasses
import difflib
import json
import shlex
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from ..evaluation.metrics import evaluate, named_bits_per_dim
from ..models.modeling_image_token_lm import ImageTokenLM
from ..training.arguments import (
    Arguments,
    HubArguments,
    LoggingArguments,
    Parser,
    RunArguments,
    ScheduleArguments,
    TrainingArguments,
    check_arguments,
    drop_overridden,
    knob,
    read_recipe,
    recipe_flags,
)
from ..training.batches import BatchPlan, evaluation_batches, training_batches
from ..training.checkpoints import Checkpoints, versions, write_atomically
from ..training.data import ImageSplits, load_images
from ..training.ema import AveragedWeights
from ..training.engine import Run
from ..training.folder import CHECKPOINTS, LOG, METRICS, check_folder, claim_folder
from ..training.launch import describe_launch, set_threads, start_accelerator
from ..training.logs import MetricsLog, Window
from ..training.optimizers import build_optimizer
from ..training.results import weights_to_judge
from ..training.schedules import Schedules
from ..training.setup import learning_rate, on_device, resume
from .autoregressive import ARCHITECTURES, build_prior, generate_images
from .cards import image_token_lm_card, prior_card
from .likelihood import sequence_nats
from .masked import hide, is_masked, training_counts
from .sequences import ImageTokenSequencer
from .token_datasets import TokenDataset, load_token_dataset, public_name, read_record
from .token_encoding import encode_in_memory


SAMPLES, CARD, IMAGE_TOKEN_LM = "samples.png", "README.md", "image_token_lm"
SAMPLED = 80  # pictures in it


# -- knobs -------------------------------------------------------------------------------------------------------------


@dataclass
class PriorArguments:
    """The prior, and the image model whose tokens it learns."""

    _argument_group_name = "prior"

    image_tokenizer: str = knob(None, "folder or Hub id of the image model")
    image_tokenizer_revision: str = knob("main", "its commit, branch or tag on the Hub")
    architecture: Literal[tuple(ARCHITECTURES)] = knob(
        "llama", "stock llama or gpt2, the paper's pixelcnn, or a masked BERT"
    )
    image_token_lm: bool = knob(
        True, "llama, gpt2: save prior and image model in one, too, and publish it as <repository>-image-token-lm"
    )
    hidden_size: int = knob(128, "width")
    num_layers: int = knob(3, "layers")
    num_heads: int = knob(4, "heads of attention; divides the width")
    dropout: float = knob(0.0, "share of activations that a training step leaves out")
    unconditional: bool = knob(False, "leave the classes of the data set aside")
    class_dropout: float = knob(
        0.1, "share of training pictures that lose their class, for guidance; 0 where there are none"
    )


@dataclass
class PictureArguments:
    """Pictures that an image model encodes at the start."""

    _argument_group_name = "data"
    streaming = False  # no knob: what is encoded fits in memory
    cache_limit_gib, random_crop, dataloader_num_workers = 8.0, 0, 0  # no knobs either: each picture is read once

    dataset_name: str | None = knob(None, "pictures: 'digits', a Hub id, or a folder (default: digits)")
    dataset_config: str | None = knob(None, "configuration of a Hub data set that has several")
    image_column: str | None = knob(None, "column of the images (default: the only one of type Image)")
    label_column: str | None = knob(None, "column of the labels (default: found by its type)")
    train_split: str = knob("train", "split to train on")
    eval_split: str | None = knob(None, "held-out split (default: test, then validation)")
    max_train_samples: int | None = knob(None, "train on the first so many pictures")
    max_eval_samples: int | None = knob(None, "evaluate on the first so many pictures")
    binarize: Literal["none", "fixed"] = knob("none", "fixed: draw each pixel from its grey level, once")


@dataclass
class TokenArguments(PictureArguments):
    """Where the tokens come from: pictures that are encoded at the start, or a data set of tokens."""

    token_dataset: str | None = knob(None, "folder or Hub id that encode_dataset.py wrote, in place of pictures")


GROUPS = (PriorArguments, RunArguments, TokenArguments, TrainingArguments, LoggingArguments, HubArguments)
OF_PICTURES = {"dataset_name", "dataset_config", "image_column", "label_column", "binarize"}
LANGUAGE_MODELS = ("llama", "gpt2")
NEVER_READ = {"init_output_bias", "hub_strategy"}  # of the shared groups


def parse_prior_arguments(argv: list[str] | None = None) -> Arguments:
    """Reads flags and recipe, as train.py does.

    Raises:
        ValueError: an unknown name (with the nearest known one), a value of the wrong type, or a knob without effect.
    """
    given, recipe = read_knobs(argv, GROUPS, "prior", "train_prior.py", "Train a prior over image tokens.")
    arguments = as_arguments(given, recipe, GROUPS, "prior")
    check(arguments)
    return arguments


def read_knobs(
    argv: list[str] | None, groups: tuple[type, ...], kind: str, script: str, description: str
) -> tuple[dict[str, Any], str | None]:
    """(the knobs that the user set by flag or recipe, the recipe's path). `kind`: the `model_type` of its recipes."""
    argv = list(sys.argv[1:] if argv is None else argv)
    first = Parser(add_help=False)
    first.add_argument("--recipe")
    path = first.parse_known_args(argv)[0].recipe
    argv, recipe = drop_overridden(argv, read_recipe(path) if path else {})
    if (found := recipe.pop("model_type", kind)) != kind:
        raise ValueError(f"{path} is a recipe of a {found}, not for {script}.")
    parser = Parser(groups, prog=script, description=description)
    parser.add_argument("--recipe", help="flat YAML file of knobs; flags override it")
    known = {action.dest for action in parser._actions} - {"help"} - NEVER_READ
    for name in recipe:
        if name not in known:
            raise ValueError(unknown(f"key {name!r} in {path}", name, known))
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # what is left in the namespace is what the user set
    namespace, rest = parser.parse_known_args(recipe_flags(recipe) + argv)
    given = {name: value for name, value in vars(namespace).items() if name != "recipe"}
    if rest or NEVER_READ & set(given):
        name = rest[0].split("=")[0].lstrip("-") if rest else min(NEVER_READ & set(given))
        raise ValueError(unknown(f"argument '--{name}'", name, known))
    return given, path


def unknown(what: str, name: str, known: set[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"Unknown {what}; the nearest known name is {nearest[0]!r}."


def as_arguments(given: dict[str, Any], recipe: str | None, groups: tuple[type, ...], kind: str) -> Arguments:
    """As the loop reads them; the prior's own knobs are what the model is for train.py: they stay when it resumes."""
    names = {cls: {field.name for field in dataclasses.fields(cls)} for cls in groups}
    prior, run, data, training, logging, hub = (
        cls(**{name: value for name, value in given.items() if name in names[cls]}) for cls in groups
    )
    return Arguments(
        kind, recipe, run, data, training, logging, hub, ScheduleArguments(),
        model=dataclasses.asdict(prior), given=frozenset(given),
    )  # fmt: skip


def check(arguments: Arguments) -> None:
    prior, data, given = arguments.model, arguments.data, arguments.given
    if prior["image_tokenizer"] is None:
        raise ValueError("--image_tokenizer is needed: the model whose tokens the prior learns.")
    if data.token_dataset is not None and OF_PICTURES & given:
        raise ValueError(f"--{min(OF_PICTURES & given)} has no effect with --token_dataset; leave it out.")
    if min(prior[name] for name in ("hidden_size", "num_layers", "num_heads")) < 1:
        raise ValueError("--hidden_size, --num_layers and --num_heads must be at least 1.")
    if prior["architecture"] not in LANGUAGE_MODELS and "image_token_lm" in given and prior["image_token_lm"]:
        fits = ", ".join(LANGUAGE_MODELS)
        raise ValueError(f"--image_token_lm holds a causal language model ({fits}), no {prior['architecture']}.")
    if prior["architecture"] == "pixelcnn" and "num_heads" in given:
        raise ValueError("--num_heads has no effect with --architecture pixelcnn; leave it out.")
    check_shared(arguments)
    if data.token_dataset is None and data.dataset_name is None:
        data.dataset_name = "digits"


def check_shared(arguments: Arguments) -> None:
    """What holds for every model that learns an image model's codes or latents."""
    model, given = arguments.model, arguments.given
    if model["unconditional"] and model["class_dropout"] and "class_dropout" in given:
        raise ValueError("--class_dropout has no effect with --unconditional; leave it out.")
    if not 0 <= model["class_dropout"] < 1 or not 0 <= model["dropout"] < 1:
        raise ValueError(f"Dropouts lie in [0, 1), got {model['class_dropout']} and {model['dropout']}.")
    check_arguments(arguments)


# -- tokens ------------------------------------------------------------------------------------------------------------


class Sequences(Dataset):
    """What the loop takes of a set of tokens: batches {"input_ids", "labels"} (B, 1 + N) and {"index"} (B,)."""

    def __init__(self, tokens: TokenDataset, sequencer: ImageTokenSequencer):
        self.tokens, self.sequencer = tokens, sequencer

    def __len__(self) -> int:
        return len(self.tokens)

    def set_epoch(self, epoch: int) -> None:
        """Nothing here changes with the epoch: classes are dropped by the model in training."""

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        batch = self.tokens.__getitems__(indices)
        labels = batch.get("labels") if self.sequencer.num_classes else None
        return {**self.sequencer(batch["image_tokens"], labels), "index": torch.as_tensor(indices)}


def as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


@dataclass
class TokenSplits:
    """Tokens to train on and to evaluate on; `images`: the held-out pictures, where there are any, and the image
    model's `figures` on them, once they are measured."""

    name: str
    train: TokenDataset
    eval: TokenDataset
    images: Any = None
    figures: dict[str, float] | None = None


def read_tokens(arguments: Arguments, image_model, processor, device: torch.device, say) -> TokenSplits:
    """Encodes pictures, or reads tokens and makes sure that they are of this model."""
    data, batch_size = arguments.data, arguments.training.eval_batch_size
    if data.token_dataset is not None:
        read = partial(load_token_dataset, data.token_dataset, expect=image_model)
        train = read(split=data.train_split).first(data.max_train_samples)
        held_out = read(split=data.eval_split or held_out_split(data.token_dataset)).first(data.max_eval_samples)
        return TokenSplits(data.token_dataset, train, held_out)
    images = read_pictures(arguments, processor)
    image_model.to(device)
    say(f"encoding {len(images.train):,} + {len(images.eval):,} images of {images.name}")
    train, held_out = (encode_in_memory(image_model, part, batch_size) for part in (images.train, images.eval))
    return TokenSplits(images.name, train, held_out, images.eval)


def held_out_split(name: str) -> str:
    """As of pictures: test, then validation."""
    splits = read_record(name).get("splits", {})
    return "validation" if "validation" in splits and "test" not in splits else "test"


def read_pictures(arguments: Arguments, processor) -> ImageSplits:
    """The pictures, at the size and scale that the image model's own processor gives them."""
    data = arguments.data
    knobs = {field.name: getattr(data, field.name) for field in dataclasses.fields(PictureArguments)}
    return load_images(knobs.pop("dataset_name"), to_uint8=processor.to_uint8, seed=arguments.run.seed, **knobs)


# -- the model in training ---------------------------------------------------------------------------------------------


class PriorInTraining(nn.Module):
    """A prior as the loop sees it: `loss` in nats per code; in training some classes are replaced by `begin`."""

    def __init__(self, prior: PreTrainedModel, sequencer: ImageTokenSequencer):
        super().__init__()
        self.prior, self.sequencer = prior, sequencer

    def forward(self, input_ids: Tensor, labels: Tensor, index: Tensor | None = None):
        """`index` (B,): the pictures' numbers in their set, which decide what eval draws of them."""
        ids = self.sequencer.ids
        if not self.training:
            nats = sequence_nats(self.prior, self.sequencer, input_ids, index)
            return CausalLMOutput(loss=nats.mean() / ids.num_tokens)
        if ids.class_dropout:
            dropped = torch.rand(len(input_ids), device=input_ids.device) < ids.class_dropout
            input_ids = without_class(input_ids, self.sequencer, dropped)
        if is_masked(self.prior):  # MaskGIT's loss
            counts = training_counts(len(input_ids), ids.num_tokens).to(input_ids.device)
            input_ids, labels = hide(input_ids, counts, ids.mask)
            return self.prior(input_ids=input_ids, labels=labels)
        return self.prior(input_ids=input_ids, labels=labels, use_cache=False)

    def defer_state_updates(self, defer: bool = True) -> None:
        """A prior has no codebook."""

    def apply_state_updates(self) -> None:
        """A prior has no codebook."""


def without_class(input_ids: Tensor, sequencer: ImageTokenSequencer, dropped: Tensor | bool = True) -> Tensor:
    """Sequences (B, 1 + N) whose prompt is `begin` where `dropped` (B,)."""
    begin = torch.full_like(input_ids[:, :1], sequencer.ids.begin)
    dropped = torch.as_tensor(dropped, device=input_ids.device).view(-1, 1)
    return torch.cat([torch.where(dropped, begin, input_ids[:, :1]), input_ids[:, 1:]], dim=1)


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass
class PriorRun(Run):
    """`Run` of the loop, and what a prior has besides.

    Attributes:
        sequencer: ids of the tokens. image_model: decodes them; lives on the device, outside of what is trained.
    """

    sequencer: ImageTokenSequencer | None = None
    image_model: PreTrainedModel | None = None


def build_prior_run(arguments: Arguments, say: Callable[[str], None] = print) -> PriorRun:
    """A run that is ready to train, resumed where that was asked for.

    Raises:
        ValueError: whatever in the knobs, the folder, the data or the checkpoint does not fit.
    """
    knobs = arguments.model
    accelerator, folder, say = start(arguments, f"prior-{Path(knobs['image_tokenizer']).name}", say)
    with accelerator.main_process_first():
        image_model, processor = load_image_model(knobs["image_tokenizer"], knobs["image_tokenizer_revision"])
    if not hasattr(image_model, "get_image_tokens"):
        raise ValueError(f"{knobs['image_tokenizer']} is a {image_model.config.model_type}, which has no image tokens.")
    check_folder(accelerator, folder, arguments)
    tokens = read_tokens(arguments, image_model, processor, accelerator.device, say)
    sequencer = build_sequencer(arguments, image_model, tokens.train)
    set_seed(arguments.run.seed)  # the same weights on every process
    sizes = {name: knobs[name] for name in ("architecture", "hidden_size", "num_layers", "num_heads", "dropout")}
    prior = build_prior(sequencer, **sizes)
    if arguments.training.gradient_checkpointing:
        prior.gradient_checkpointing_enable()
    core, sequences = PriorInTraining(prior, sequencer), Sequences(tokens.train, sequencer)
    run = assemble(PriorRun, arguments, accelerator, core, sequences, folder)
    run.images = tokens
    run.sequencer, run.image_model, run.processor = sequencer, image_model.to(accelerator.device), processor
    run.evaluate, run.picture = partial(evaluate_prior, run), partial(sheet_of_samples, run)
    say(describe(run, tokens))
    begin_or_resume(run, folder, knobs, say)
    return run


def start(arguments: Arguments, default_name: str, say: Callable[[str], None]):
    """(accelerator, the run's folder, `say` of the main process)"""
    folder = Path(arguments.run.output_dir or Path("runs") / default_name)
    arguments.run.output_dir = str(folder)
    accelerator = start_accelerator(arguments)
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"Each process must hold this model whole, and {accelerator.distributed_type.value} would shard it: use "
            "DDP (scripts/accelerate_configs/multi_gpu.yaml)."
        )
    say = say if accelerator.is_main_process else lambda text: None
    say(describe_launch(accelerator, set_threads(accelerator, arguments.run.num_threads)))
    return accelerator, folder, say


def begin_or_resume(run: Run, folder: Path, model_knobs: Collection[str], say: Callable[[str], None]) -> None:
    """The last steps before training. `model_knobs`: those that a resumed run must keep."""
    arguments, accelerator = run.arguments, run.accelerator
    set_seed(arguments.run.seed + accelerator.process_index)  # other draws on every process
    resume(run, say, model_knobs=model_knobs)
    claim_folder(accelerator, folder, arguments)
    accelerator.init_trackers("logs", config={name: str(value) for name, value in arguments.as_dict().items()})


def load_image_model(name: str, revision: str = "main"):
    """An image model in eval mode, and its image processor."""
    try:
        model = AutoModel.from_pretrained(name, revision=revision).eval().requires_grad_(False)
        processor = AutoImageProcessor.from_pretrained(name, revision=revision)
    except OSError as error:
        raise ValueError(f"The image model {name} cannot be loaded: {error}") from error
    return model, processor


def build_sequencer(arguments: Arguments, image_model, tokens: TokenDataset) -> ImageTokenSequencer:
    knobs = arguments.model
    classes = 0 if knobs["unconditional"] else tokens.num_classes
    if not classes and knobs["class_dropout"] and "class_dropout" in arguments.given:
        raise ValueError(f"--class_dropout {knobs['class_dropout']}: the data set has no classes to drop.")
    dropout = knobs["class_dropout"] if classes else 0.0
    sequencer = ImageTokenSequencer.for_model(image_model, classes, dropout, knobs["image_tokenizer_revision"])
    sequencer.image_tokenizer = public_name(sequencer.image_tokenizer)
    return sequencer


def assemble(
    kind: type[Run], arguments: Arguments, accelerator: Accelerator, core: nn.Module, dataset: Dataset, folder: Path
) -> Run:
    """A run of `kind` that trains `core` on `dataset`, which gives whole batches of what its forward takes."""
    training = arguments.training
    plan = BatchPlan(
        len(dataset), training.train_batch_size, training.gradient_accumulation_steps, accelerator.num_processes,
        accelerator.process_index, arguments.run.seed,
    )  # fmt: skip
    total = training.max_train_steps or max(1, round(training.num_train_epochs * plan.steps_per_epoch))
    model, optimizer = accelerator.prepare(core, build_optimizer(accelerator, core, training))
    return kind(
        arguments=arguments,
        accelerator=accelerator,
        model=model,
        core=accelerator.unwrap_model(model),
        optimizer=optimizer,
        batches=lambda step: on_device(training_batches(dataset, plan, step, collate_fn=as_it_is), accelerator.device),
        schedules=Schedules({}),
        learning_rate=learning_rate(training, total),
        checkpoints=Checkpoints(accelerator, folder / CHECKPOINTS, arguments.logging.checkpoints_total_limit),
        log=MetricsLog(folder / LOG, accelerator.is_main_process),
        window=Window(accelerator, None, training.gradient_accumulation_steps),
        total_steps=total,
        steps_per_epoch=plan.steps_per_epoch,
        averages=AveragedWeights(model, training.ema_weights) if training.ema_weights is not None else None,
        images=None,
    )


def describe(run: PriorRun, tokens: TokenSplits) -> str:
    millions = sum(parameter.numel() for parameter in run.core.parameters()) / 1e6
    sequencer = run.sequencer
    grid = "x".join(map(str, sequencer.grid_size))
    return (
        f"data {tokens.name}: {len(tokens.train):,} grids of {grid} codes, {len(tokens.eval):,} held out\n"
        f"prior {run.arguments.model['architecture']}: {millions:.2f} M parameters, {sequencer.codebook_size} codes, "
        f"{sequencer.num_classes} classes, class dropout {sequencer.class_dropout:g}"
    )


# -- figures -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate_prior(run: PriorRun) -> dict[str, float]:
    """Figures of the held-out split, each picture counted once; measured once a step. A collective call.

    nats_per_code: of the codes, given the class where the prior has classes; for a masked prior a bound from above.
    nats_per_code_unconditional: without the class.
    prior_nats, reconstruction_nats, nats: per image. bits_per_dim_*: of the whole model, prior and decoder.
    """
    if run.figures is None or run.figures[0] != run.step:
        with weights_to_judge(run) as model:
            figures = nats_per_code(run, model)
        run.figures = (run.step, {**figures, **whole_model(run, figures["nats_per_code"])})
    return run.figures[1]


def nats_per_code(run: PriorRun, model: PriorInTraining) -> dict[str, float]:
    accelerator, sequencer = run.accelerator, run.sequencer
    sequences, batch_size = Sequences(run.images.eval, sequencer), run.arguments.training.eval_batch_size
    loader = evaluation_batches(
        sequences, batch_size, accelerator.process_index, accelerator.num_processes, collate_fn=as_it_is
    )
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    for batch in on_device(loader, accelerator.device):
        count = len(batch["input_ids"])
        sums[0] += count
        sums[1] += model(**batch).loss.double() * count
        if sequencer.class_dropout:
            batch["input_ids"] = without_class(batch["input_ids"], sequencer)
            sums[2] += model(**batch).loss.double() * count
    count, given, free = accelerator.reduce(sums, reduction="sum").tolist()
    figures = {"images": count, "nats_per_code": given / count}
    return {**figures, "nats_per_code_unconditional": free / count} if sequencer.class_dropout else figures


def whole_model(run: PriorRun, nats_per_code: float) -> dict[str, float]:
    """-ln p(x, codes) <= -ln p(x): nats per image of prior and decoder together, where there are pictures."""
    prior_nats = nats_per_code * run.sequencer.ids.num_tokens
    if run.images.images is None:
        return {"prior_nats": prior_nats}
    config = run.image_model.config
    figures = decoder_figures(run)
    nats = figures["negative_log_likelihood"] + prior_nats
    dimensions = config.height * config.width * config.num_channels
    return {
        "prior_nats": prior_nats,
        "reconstruction_nats": figures["negative_log_likelihood"],
        "nats": nats,
        **named_bits_per_dim(nats, dimensions, figures.get("bernoulli_floor")),
        "code_perplexity": figures["perplexity"],
    }


def decoder_figures(run: PriorRun) -> dict[str, float]:
    """Of the image model on the held-out pictures; it does not change, so they are measured once."""
    if run.images.figures is None:
        images, accelerator = run.images.images, run.accelerator
        loader = evaluation_batches(
            images, run.arguments.training.eval_batch_size, accelerator.process_index, accelerator.num_processes,
            collate_fn=images.collate,
        )  # fmt: skip
        run.images.figures = evaluate(run.image_model, on_device(loader, accelerator.device), ssim=False)
    return run.images.figures


# -- what a run leaves -------------------------------------------------------------------------------------------------


def sheet_of_samples(run: PriorRun) -> Image.Image:
    """Pictures drawn from the prior, one class a column."""
    classes = run.sequencer.num_classes
    labels = [number % classes for number in range(SAMPLED)] if classes else None
    generator = torch.Generator().manual_seed(run.arguments.run.seed)
    with weights_to_judge(run) as model:
        pictures = generate_images(
            model.prior, run.image_model, labels, num_images=None if labels else SAMPLED, generator=generator
        )
    return picture_grid(pictures, columns=min(classes, 20) or 10)


def picture_grid(pictures: Tensor, columns: int, least_side: int = 56) -> Image.Image:
    """(B, C, H, W) in [-1, 1] as one picture, row by row, each enlarged by a whole factor to `least_side` pixels."""
    scale = max(1, -(-least_side // min(pictures.shape[2:])))
    levels = ((pictures.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    levels = levels[:, :3] if levels.shape[1] >= 3 else levels[:, :1].expand(-1, 3, -1, -1)
    levels = levels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    padded = nn.functional.pad(levels, (1, 1, 1, 1), value=255)  # (B, 3, H, W)
    missing = -len(padded) % columns
    padded = torch.cat([padded, padded.new_full((missing, *padded.shape[1:]), 255)])
    rows = padded.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    return Image.fromarray(rows.flatten(2, 3).flatten(0, 1).contiguous().numpy())


def save_prior(run: PriorRun) -> dict[str, Any]:
    """The prior with its sequencer, metrics.json, samples.png and a card, in the output folder; below it, of a language
    model, prior and image model in one (`IMAGE_TOKEN_LM`). A collective call."""
    folder = Path(run.arguments.run.output_dir)
    record = {"metrics": evaluate_prior(run), **record_of(run)}
    sheet = sheet_of_samples(run)
    with weights_to_judge(run) as model:
        if run.accelerator.is_main_process:
            model.prior.save_pretrained(folder)
            run.sequencer.save_pretrained(folder)
            sheet.save(folder / SAMPLES)
            write_atomically(folder / METRICS, json.dumps(record, indent=1) + "\n")
            write_atomically(folder / CARD, prior_card(record, run.sequencer, names_of_repositories(run)[0]))
            if has_image_token_lm(run):
                save_image_token_lm(run, model.prior, folder / IMAGE_TOKEN_LM)
                sheet.save(folder / IMAGE_TOKEN_LM / SAMPLES)
                text = image_token_lm_card(record, run.sequencer, names_of_repositories(run)[1])
                write_atomically(folder / IMAGE_TOKEN_LM / CARD, text)
    run.accelerator.wait_for_everyone()
    return record


def has_image_token_lm(run: PriorRun) -> bool:
    """Whether the run also leaves prior and image model in one."""
    knobs = run.arguments.model
    return knobs["image_token_lm"] and knobs["architecture"] in LANGUAGE_MODELS


def names_of_repositories(run: PriorRun) -> tuple[str, str]:
    """Of the prior, and of prior and image model in one."""
    name = run.arguments.hub.hub_model_id or Path(run.arguments.run.output_dir).resolve().name
    return name, f"{name}-image-token-lm"


def save_image_token_lm(run: PriorRun, prior: PreTrainedModel, folder: Path) -> None:
    """`AutoModel.from_pretrained(folder).generate_images(labels=[3, 7])`, with its image processor."""
    sequencer = run.sequencer
    model = ImageTokenLM.from_parts(run.image_model, prior, sequencer.num_classes, sequencer.class_dropout)
    model.save_pretrained(folder)
    run.processor.save_pretrained(folder)


def record_of(run: PriorRun) -> dict[str, Any]:
    return {
        "architecture": run.arguments.model["architecture"],
        "parameters": sum(parameter.numel() for parameter in run.core.parameters()),
        "image_tokenizer": run.sequencer.image_tokenizer,
        "dataset": {
            "name": public_name(run.images.name),
            "train_images": len(run.images.train),
            "eval_images": len(run.images.eval),
        },
        "steps": run.step,
        "seconds": round(run.seconds, 1),
        "seed": run.arguments.run.seed,
        "settings": run.arguments.as_recipe(),
        "command": shlex.join(sys.argv),
        "processes": run.accelerator.num_processes,
        "versions": versions(),
    }
