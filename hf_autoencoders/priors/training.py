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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from ..evaluation.metrics import bits_per_dim, evaluate
from ..training.arguments import (
    Arguments,
    HubArguments,
    LoggingArguments,
    Parser,
    RunArguments,
    ScheduleArguments,
    TrainingArguments,
    knob,
    read_recipe,
    recipe_flags,
)
from ..training.batches import BatchPlan, evaluation_batches, training_batches
from ..training.checkpoints import Checkpoints, versions, write_atomically
from ..training.data import load_images
from ..training.ema import AveragedWeights
from ..training.engine import Run
from ..training.folder import CHECKPOINTS, LOG, METRICS, check_folder, claim_folder
from ..training.launch import describe_launch, set_threads, start_accelerator
from ..training.logs import MetricsLog, Window
from ..training.results import weights_to_judge
from ..training.schedules import Schedules
from ..training.setup import build_optimizer, learning_rate, on_device, resume
from .autoregressive import ARCHITECTURES, build_prior, generate_images
from .masked import bound_counts, hide, is_masked, mean_of_means, training_counts
from .sequences import ImageTokenSequencer
from .token_datasets import TokenDataset, load_token_dataset, public_name
from .token_encoding import encode_in_memory


SAMPLES = "samples.png"
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
    hidden_size: int = knob(128, "width")
    num_layers: int = knob(3, "layers")
    num_heads: int = knob(4, "heads of attention; divides the width")
    dropout: float = knob(0.0, "share of activations that a training step leaves out")
    unconditional: bool = knob(False, "leave the classes of the data set aside")
    class_dropout: float = knob(
        0.1, "share of training pictures that lose their class, for guidance; 0 where there are none"
    )


@dataclass
class TokenArguments:
    """Where the tokens come from: pictures that are encoded at the start, or a data set of tokens."""

    _argument_group_name = "data"
    streaming = False  # no knob: tokens fit in memory

    dataset_name: str | None = knob(None, "pictures: 'digits', a Hub id, or a folder (default: digits, without tokens)")
    token_dataset: str | None = knob(None, "folder or Hub id that encode_dataset.py wrote, in place of pictures")
    dataset_config: str | None = knob(None, "configuration of a Hub data set that has several")
    image_column: str | None = knob(None, "column of the images (default: the only one of type Image)")
    label_column: str | None = knob(None, "column of the labels (default: found by its type)")
    train_split: str = knob("train", "split to train on")
    eval_split: str | None = knob(None, "held-out split (default: test, then validation)")
    max_train_samples: int | None = knob(None, "train on the first so many pictures")
    max_eval_samples: int | None = knob(None, "evaluate on the first so many pictures")
    binarize: Literal["none", "fixed"] = knob("none", "fixed: draw each pixel from its grey level, once")


GROUPS = (PriorArguments, RunArguments, TokenArguments, TrainingArguments, LoggingArguments, HubArguments)
OF_PICTURES = {"dataset_name", "dataset_config", "image_column", "label_column", "binarize"}
NEVER_READ = {"init_output_bias", "hub_strategy"}  # of the shared groups


def parse_prior_arguments(argv: list[str] | None = None) -> Arguments:
    """Reads flags and recipe, as train.py does.

    Raises:
        ValueError: an unknown name (with the nearest known one), a value of the wrong type, or a knob without effect.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    first = Parser(add_help=False)
    first.add_argument("--recipe")
    path = first.parse_known_args(argv)[0].recipe
    recipe = read_recipe(path) if path else {}
    if recipe.pop("model_type", "prior") != "prior":
        raise ValueError(f"{path} is a recipe for train.py, not for a prior.")
    parser = Parser(GROUPS, prog="train_prior.py", description="Train a prior over image tokens.")
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
    arguments = as_arguments(given, path)
    check(arguments)
    return arguments


def unknown(what: str, name: str, known: set[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"Unknown {what}; the nearest known name is {nearest[0]!r}."


def as_arguments(given: dict[str, Any], recipe: str | None) -> Arguments:
    """As the loop reads them; the prior's own knobs are what the model is for train.py: they stay when it resumes."""
    names = {cls: {field.name for field in dataclasses.fields(cls)} for cls in GROUPS}
    prior, run, data, training, logging, hub = (
        cls(**{name: value for name, value in given.items() if name in names[cls]}) for cls in GROUPS
    )
    return Arguments(
        "prior", recipe, run, data, training, logging, hub, ScheduleArguments(),
        model=dataclasses.asdict(prior), given=frozenset(given),
    )  # fmt: skip


def check(arguments: Arguments) -> None:
    prior, data, given = arguments.model, arguments.data, arguments.given
    if prior["image_tokenizer"] is None:
        raise ValueError("--image_tokenizer is needed: the model whose tokens the prior learns.")
    if data.token_dataset is not None and OF_PICTURES & given:
        raise ValueError(f"--{min(OF_PICTURES & given)} has no effect with --token_dataset; leave it out.")
    if prior["unconditional"] and prior["class_dropout"] and "class_dropout" in given:
        raise ValueError("--class_dropout has no effect with --unconditional; leave it out.")
    if prior["architecture"] == "pixelcnn" and "num_heads" in given:
        raise ValueError("--num_heads has no effect with --architecture pixelcnn; leave it out.")
    if not 0 <= prior["class_dropout"] < 1 or not 0 <= prior["dropout"] < 1:
        raise ValueError(f"Dropouts lie in [0, 1), got {prior['class_dropout']} and {prior['dropout']}.")
    for name in ("train_batch_size", "eval_batch_size", "gradient_accumulation_steps"):
        if getattr(arguments.training, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(arguments.training, name)}.")
    if data.token_dataset is None and data.dataset_name is None:
        data.dataset_name = "digits"


# -- tokens ------------------------------------------------------------------------------------------------------------


class Sequences(Dataset):
    """What the loop takes of a set of tokens: batches {"input_ids", "labels"} (B, 1 + N)."""

    def __init__(self, tokens: TokenDataset, sequencer: ImageTokenSequencer, limit: int | None = None):
        self.tokens, self.sequencer = tokens, sequencer
        self.length = min(len(tokens), limit or len(tokens))

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Nothing here changes with the epoch: classes are dropped by the model in training."""

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        batch = self.tokens.__getitems__(indices)
        labels = batch.get("labels") if self.sequencer.num_classes else None
        return dict(self.sequencer(batch["image_tokens"], labels))


def as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


@dataclass
class TokenSplits:
    """Tokens to train on and to evaluate on; `images`: the held-out pictures, where there are any."""

    name: str
    train: TokenDataset
    eval: TokenDataset
    images: Any = None


def read_tokens(arguments: Arguments, image_model, processor, device: torch.device, say) -> TokenSplits:
    """Encodes pictures, or reads tokens and makes sure that they are of this model."""
    data, batch_size = arguments.data, arguments.training.eval_batch_size
    if data.token_dataset is not None:
        read = partial(load_token_dataset, data.token_dataset, expect=image_model)
        return TokenSplits(data.token_dataset, read(split=data.train_split), read(split=data.eval_split or "test"))
    names = [field.name for field in dataclasses.fields(data) if field.name not in ("dataset_name", "token_dataset")]
    knobs = {name: getattr(data, name) for name in names}
    images = load_images(data.dataset_name, to_uint8=processor.to_uint8, seed=arguments.run.seed, **knobs)
    image_model.to(device)
    say(f"encoding {len(images.train):,} + {len(images.eval):,} images of {images.name}")
    train, held_out = (encode_in_memory(image_model, part, batch_size) for part in (images.train, images.eval))
    return TokenSplits(images.name, train, held_out, images.eval)


# -- the model in training ---------------------------------------------------------------------------------------------


class PriorInTraining(nn.Module):
    """A prior as the loop sees it: `loss` in nats per code; in training some classes are replaced by `begin`."""

    def __init__(self, prior: PreTrainedModel, sequencer: ImageTokenSequencer):
        super().__init__()
        self.prior, self.sequencer = prior, sequencer

    def forward(self, input_ids: Tensor, labels: Tensor):
        if self.training and self.sequencer.class_dropout:
            dropped = torch.rand(len(input_ids), device=input_ids.device) < self.sequencer.class_dropout
            input_ids = without_class(input_ids, self.sequencer, dropped)
        if is_masked(self.prior):
            return self.forward_masked(input_ids)
        return self.prior(input_ids=input_ids, labels=labels, use_cache=False)

    def forward_masked(self, input_ids: Tensor) -> MaskedLMOutput:
        """In training MaskGIT's loss; in eval one draw of a bound of the nats per code, the same draw each time."""
        ids, batch = self.sequencer.ids, len(input_ids)
        if self.training:
            counts = training_counts(batch, ids.num_tokens).to(input_ids.device)
            hidden, targets = hide(input_ids, counts, ids.mask)
            return self.prior(input_ids=hidden, labels=targets)
        generator = torch.Generator().manual_seed(0)
        counts = bound_counts(batch, ids.num_tokens, generator).to(input_ids.device)
        hidden, targets = hide(input_ids, counts, ids.mask, generator)
        return MaskedLMOutput(loss=mean_of_means(self.prior, hidden, targets))

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
    folder = Path(arguments.run.output_dir or Path("runs") / f"prior-{Path(knobs['image_tokenizer']).name}")
    arguments.run.output_dir = str(folder)
    accelerator = start_accelerator(arguments)
    say = say if accelerator.is_main_process else lambda text: None
    say(describe_launch(accelerator, set_threads(accelerator, arguments.run.num_threads)))
    with accelerator.main_process_first():
        image_model, processor = load_image_model(knobs["image_tokenizer"], knobs["image_tokenizer_revision"])
    check_folder(accelerator, folder, arguments)
    tokens = read_tokens(arguments, image_model, processor, accelerator.device, say)
    sequencer = build_sequencer(arguments, image_model, tokens.train)
    set_seed(arguments.run.seed)  # the same weights on every process
    sizes = {name: knobs[name] for name in ("architecture", "hidden_size", "num_layers", "num_heads", "dropout")}
    prior = build_prior(sequencer, **sizes)
    if arguments.training.gradient_checkpointing:
        prior.gradient_checkpointing_enable()
    run = assemble(arguments, accelerator, PriorInTraining(prior, sequencer), tokens, folder)
    run.sequencer, run.image_model, run.processor = sequencer, image_model.to(accelerator.device), processor
    run.evaluate, run.picture = partial(evaluate_prior, run), partial(sheet_of_samples, run)
    say(describe(run, tokens))
    set_seed(arguments.run.seed + accelerator.process_index)  # other classes dropped on every process
    resume(run, say, model_knobs=knobs)
    claim_folder(accelerator, folder, arguments)
    accelerator.init_trackers("logs", config={name: str(value) for name, value in arguments.as_dict().items()})
    return run


def load_image_model(name: str, revision: str = "main"):
    """A model with image tokens, in eval mode, and its image processor."""
    try:
        model = AutoModel.from_pretrained(name, revision=revision).eval().requires_grad_(False)
        processor = AutoImageProcessor.from_pretrained(name, revision=revision)
    except OSError as error:
        raise ValueError(f"The image model {name} cannot be loaded: {error}") from error
    if not hasattr(model, "get_image_tokens"):
        raise ValueError(f"{name} is a {model.config.model_type}, which has no image tokens.")
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
    arguments: Arguments, accelerator: Accelerator, core: PriorInTraining, tokens: TokenSplits, folder: Path
) -> PriorRun:
    training, data = arguments.training, arguments.data
    sequences = Sequences(tokens.train, core.sequencer, data.max_train_samples)
    plan = BatchPlan(
        len(sequences), training.train_batch_size, training.gradient_accumulation_steps, accelerator.num_processes,
        accelerator.process_index, arguments.run.seed,
    )  # fmt: skip
    total = training.max_train_steps or max(1, round(training.num_train_epochs * plan.steps_per_epoch))
    model, optimizer = accelerator.prepare(core, build_optimizer(core, training))
    return PriorRun(
        arguments=arguments,
        accelerator=accelerator,
        model=model,
        core=accelerator.unwrap_model(model),
        optimizer=optimizer,
        batches=lambda step: on_device(
            training_batches(sequences, plan, step, collate_fn=as_it_is), accelerator.device
        ),
        schedules=Schedules({}),
        learning_rate=learning_rate(training, total),
        checkpoints=Checkpoints(accelerator, folder / CHECKPOINTS, arguments.logging.checkpoints_total_limit),
        log=MetricsLog(folder / LOG, accelerator.is_main_process),
        window=Window(accelerator, None, training.gradient_accumulation_steps),
        total_steps=total,
        steps_per_epoch=plan.steps_per_epoch,
        averages=AveragedWeights(model, training.ema_weights) if training.ema_weights is not None else None,
        images=tokens,
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
    sequences = Sequences(run.images.eval, sequencer, run.arguments.data.max_eval_samples)
    loader = evaluation_batches(
        sequences, run.arguments.training.eval_batch_size, accelerator.process_index, accelerator.num_processes,
        collate_fn=as_it_is,
    )  # fmt: skip
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
    continuous = config.reconstruction_loss != "bce"
    kind = "continuous" if continuous else "discrete"
    dimensions = config.height * config.width * config.num_channels
    return {
        "prior_nats": prior_nats,
        "reconstruction_nats": figures["negative_log_likelihood"],
        "nats": nats,
        f"bits_per_dim_{kind}": bits_per_dim(nats, dimensions, continuous),
        "code_perplexity": figures["perplexity"],
    }


def decoder_figures(run: PriorRun) -> dict[str, float]:
    """Of the image model on the held-out pictures; it does not change, so they are measured once."""
    if not hasattr(run.images, "figures"):
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
    """The prior with its sequencer, metrics.json, samples.png and a card, in the output folder. A collective call."""
    folder = Path(run.arguments.run.output_dir)
    record = {"metrics": evaluate_prior(run), **record_of(run)}
    sheet = sheet_of_samples(run)
    with weights_to_judge(run) as model:
        if run.accelerator.is_main_process:
            model.prior.save_pretrained(folder)
            run.sequencer.save_pretrained(folder)
            sheet.save(folder / SAMPLES)
            write_atomically(folder / METRICS, json.dumps(record, indent=1) + "\n")
            write_atomically(folder / "README.md", card(run, record))
    run.accelerator.wait_for_everyone()
    return record


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


def card(run: PriorRun, record: dict[str, Any]) -> str:
    """README.md of the prior, from measured numbers."""
    rows = [f"| {name} | {value:.4g} |" for name, value in record["metrics"].items()]
    sequencer = run.sequencer
    asked = "labels=[3, 7]" if sequencer.num_classes else "num_images=2"
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [image-tokens, hf_autoencoders, image-generation]",
            "---",
            f"# A prior over the image tokens of {sequencer.image_tokenizer}",
            "",
            f"A {record['architecture']} model ({record['parameters'] / 1e6:.2f} M parameters) of "
            f"{sequencer.codebook_size} codes on a {'x'.join(map(str, sequencer.grid_size))} grid, "
            f"{sequencer.num_classes} classes; trained {record['steps']} steps on {record['dataset']['name']}.",
            "",
            "![samples](samples.png)",
            "",
            "| held out | value |",
            "|---|---|",
            *rows,
            "",
            "```python",
            "from transformers import AutoModel",
            "",
            "from hf_autoencoders.priors.autoregressive import generate_images, load_prior",
            "",
            'prior = load_prior("this/repository")',
            f'image_model = AutoModel.from_pretrained("{sequencer.image_tokenizer}")',
            f"pictures = generate_images(prior, image_model, {asked})",
            "```",
            "",
        ]
    )
