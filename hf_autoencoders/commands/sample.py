# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Draw new pictures from a prior:

    hf-autoencoders sample --prior runs/prior-digits --image_tokenizer runs/vqvae-digits --labels 3 7

Without --prior, the model's own prior is used: N(0, I) of a VAE, else uniform codes.
--measure DATASET compares the pictures, and as many real ones, with held-out pictures: FD-CNN, precision, recall,
coverage, and with --judge the share of pictures that show the class asked for.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedConfig

import hf_autoencoders.models  # noqa: F401  (registers the models with the Auto classes)

from ..evaluation.features import measure_samples
from ..models.image_token_ids import ImageTokenIds, as_class_numbers, check_count, check_sampling
from ..perception.digits_classifier import load_digits_classifier, load_judge
from ..priors.autoregressive import generate_images, load_prior, sequencer_of
from ..priors.sheets import tile_pictures
from ..training.arguments import knob
from ..training.data import load_images
from ..training.knobs import Parser
from ..training.saved_models import load_model, load_processor
from ..training.storage import write_atomically
from .boundary import no_progress_bars, run_command


MOST_GIB = 64  # of pictures in memory


@dataclass
class SampleArguments:
    """What to draw."""

    image_tokenizer: str = knob(
        None, "folder or Hub id of the image model, or of an ImageTokenLM, which needs no --prior"
    )
    prior: str | None = knob(None, "folder or Hub id of the prior")
    output: str = knob("samples.png", "picture to write")
    labels: list[str] = knob(
        [], "classes by name or number, each drawn --num_images times (default: all classes of the prior)"
    )
    num_images: int = knob(8, "pictures of each class; without classes, pictures in all")
    unconditional: bool = knob(False, "draw without classes, even if the prior knows some")
    temperature: float = knob(1.0, "below 1: likely codes are drawn more often")
    top_k: int = knob(0, "draw from the k most likely codes; 0: from all")
    top_p: float = knob(1.0, "draw from the most likely codes that together have this probability")
    guidance_scale: float = knob(1.0, "above 1: pictures show their class more clearly")
    seed: int = knob(0, "seed of the draws")
    batch_size: int = knob(256, "pictures drawn at once")
    columns: int | None = knob(None, "pictures in a row (default: those of one class)")
    measure: str | None = knob(None, "data set ('digits', a Hub id, a folder) to measure the pictures against")
    judge: str | None = knob(None, "with --measure: weights of train_digits_classifier.py, for the class accuracy")
    device: Literal["auto", "cpu", "cuda"] = knob("auto", "where to compute")


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("sample", lambda: read(argv), draw_pictures)


def read(argv: list[str] | None) -> SampleArguments:
    parser = Parser(SampleArguments, command="sample", description="Draw new pictures.")
    arguments, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    check(arguments, unknown)
    return arguments


def check(arguments: SampleArguments, unknown: list[str]) -> None:
    if unknown:
        raise ValueError(f"Unknown argument {unknown[0]!r}; --help lists all.")
    if arguments.image_tokenizer is None:
        raise ValueError("--image_tokenizer is needed: the model that makes pictures of codes.")
    check_sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    check_count(arguments.num_images)
    if min(arguments.batch_size, 1 if arguments.columns is None else arguments.columns) < 1:
        raise ValueError("--batch_size and --columns must be at least 1.")
    if not 0 <= arguments.seed < 2**63:
        raise ValueError(f"--seed must lie in 0..{2**63 - 1}, got {arguments.seed}.")
    if arguments.unconditional and arguments.labels:
        raise ValueError("--labels and --unconditional exclude each other.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this torch sees no GPU.")
    if arguments.judge and not arguments.measure:
        raise ValueError("--judge has no effect without --measure: leave it out, or name a data set to compare with.")


def check_no_prior(arguments: SampleArguments) -> None:
    """Raises ValueError for knobs of a prior: they show that --prior was forgotten."""
    for name in ("labels", "unconditional", "temperature", "top_k", "top_p", "guidance_scale"):
        if getattr(arguments, name) != getattr(SampleArguments(), name):
            raise ValueError(f"--{name} has no effect without --prior: this image model draws by itself.")


@no_progress_bars()
def draw_pictures(arguments: SampleArguments) -> None:
    device = ("cuda" if torch.cuda.is_available() else "cpu") if arguments.device == "auto" else arguments.device
    image_model = load_model(arguments.image_tokenizer).to(device)
    generator = torch.Generator().manual_seed(arguments.seed)
    started = time.perf_counter()
    if arguments.prior is None and not hasattr(image_model, "generate_images"):
        check_no_prior(arguments)
        check_memory(image_model.config, arguments.num_images)
        labels, pictures = None, image_model.sample(arguments.num_images, generator=generator)
    else:
        labels, pictures = draw_from_prior(arguments, image_model, device, generator)
    seconds = time.perf_counter() - started
    columns = min(arguments.columns or (arguments.num_images if labels else 10), len(pictures))
    Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
    tile_pictures(pictures, columns).save(arguments.output)
    print(f"{len(pictures)} pictures in {seconds:.1f} s, {len(pictures) / seconds:.1f} images/s: {arguments.output}")
    if arguments.measure:
        measure_against(arguments, pictures.cpu(), labels)


def check_memory(config, count: int) -> None:
    """Raises ValueError where so many pictures, kept until all are drawn, would take more memory than is sensible."""
    config = getattr(config, "image_model", config)  # an ImageTokenLM holds one
    gib = count * config.num_channels * config.height * config.width * 4 / 2**30
    if gib > MOST_GIB:
        raise ValueError(f"{count:,} pictures would take {gib:,.0f} GiB at once: draw fewer in one call.")


def measure_against(arguments: SampleArguments, pictures: torch.Tensor, labels: list[int | str] | None) -> None:
    """Prints metrics of the pictures beside those of as many real ones, and writes them beside the picture.

    `labels`: names of the classes asked for, or numbers where the prior knows no names.
    """
    processor = load_processor(arguments.image_tokenizer)
    images = load_images(arguments.measure, to_uint8=processor.to_uint8, max_train_samples=len(pictures))
    judge = load_judge(arguments.judge) if arguments.judge else None
    reference, real = (part.batch(range(len(part))) for part in (images.eval, images.train))
    both = labels is not None and images.train.labels is not None
    asked = as_class_numbers(labels, images.train.names or ()) if both else None
    metrics = measure_samples(
        pictures, reference["pixel_values"], real["pixel_values"], load_digits_classifier(), judge=judge,
        labels=asked, real_labels=images.train.labels if both else None,
    )  # fmt: skip
    for name in (name for name in metrics if f"{name}_of_real_data" in metrics):
        print(f"  {name} {metrics[name]:.4g} (real data: {metrics[name + '_of_real_data']:.4g})")
    path = Path(arguments.output).with_suffix(".json")
    write_atomically(path, json.dumps({"measure": metrics, "settings": vars(arguments)}, indent=1) + "\n")
    print(f"against {len(reference['pixel_values']):,} held-out pictures of {arguments.measure}: {path}")


def draw_from_prior(arguments: SampleArguments, image_model, device: str, generator: torch.Generator):
    """(labels or None, pictures)"""
    options = {name: getattr(arguments, name) for name in ("temperature", "top_k", "top_p", "guidance_scale")}
    if arguments.prior is None:
        labels, count = wanted(arguments, image_model.config.token_ids, image_model.config)
        return labels, image_model.generate_images(labels, count, generator=generator, **options)
    prior = load_prior(arguments.prior).to(device)
    labels, count = wanted(arguments, sequencer_of(prior).ids, image_model.config)
    options["batch_size"] = arguments.batch_size
    return labels, generate_images(prior, image_model, labels, num_images=count, generator=generator, **options)


def wanted(
    arguments: SampleArguments, ids: ImageTokenIds, config: PreTrainedConfig
) -> tuple[list[int | str] | None, int | None]:
    """The class of each picture, by name where the prior knows names; or how many pictures without."""
    chosen = ids.classes(arguments.labels) if arguments.labels else []
    if not chosen and not arguments.unconditional:
        chosen = list(ids.class_names) or list(range(ids.num_classes))
    check_memory(config, max(1, len(chosen)) * arguments.num_images)
    if not chosen:
        return None, arguments.num_images
    return [label for label in chosen for _ in range(arguments.num_images)], None


if __name__ == "__main__":
    sys.exit(main())
