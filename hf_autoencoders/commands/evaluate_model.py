# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Show and measure a trained model:  hf-autoencoders evaluate_model runs/vae-mnist --beside runs/ae-mnist

Writes RUN/report: pictures (PNG), metrics.json, and index.html, one file that holds it all. RUN is the folder of a run,
or a model on the Hub. The judge of class accuracy and gaps: python scripts/train_digits_classifier.py --help
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hf_autoencoders.models  # noqa: F401  (registers the four models with the Auto classes)

from ..evaluation.likelihood import data_setting
from ..evaluation.photo_metrics import feature_net
from ..evaluation.protocol import describe_processor, protocol_line
from ..evaluation.report import Knobs, write_report
from ..evaluation.subject import Subject
from ..perception.digits_classifier import WEIGHTS, load_judge, read_weights_metadata
from ..perception.feature_nets import FEATURE_NETS
from ..priors.autoregressive import load_prior, sequencer_of
from ..priors.likelihood import code_nats
from ..training.augmentation import BINARIZE
from ..training.data import ImageSplits
from ..training.run_data import COLUMNS, images_of_run, read_record
from ..training.saved_models import load_model, load_processor
from .boundary import OneLineParser, no_progress_bars, run_command


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("evaluate_model", lambda: parse_arguments(argv), run)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("evaluate_model", __doc__)
    add = parser.add_argument
    add("run", help="folder of a run, or a Hub id")
    add("--beside", metavar="RUN2", help="a second model, whose gaps are shown beside the first one's")
    add("--output_dir", type=Path, help="default: RUN/report")
    add("--dataset_name", help="Hub id, folder or 'digits' (default: what the run was trained on)")
    for column in COLUMNS:
        add(f"--{column}", help="as for `hf-autoencoders train` (default: as the run)")
    add("--binarize", choices=BINARIZE, help="default: as the run")
    add("--max_train_samples", type=int, help="read only so many training pictures")
    add("--max_eval_samples", type=int, help="judge on only so many held-out pictures")
    add("--judge", help="weights that scripts/train_digits_classifier.py made with another seed than the package's")
    add(
        "--feature_model",
        help=f"net in whose features photographs are compared: {', '.join(FEATURE_NETS)}, or a model of transformers",
    )
    add("--feature_size", type=int, help="resize pictures to so many pixels a side for it (default: as they are)")
    add("--prior", help="folder or Hub id of a prior of this model's codes, for bits/dim of both together")
    add("--num_importance_samples", type=int, default=0, help="k of the importance weighted bound (customary: 5000)")
    add("--num_samples", type=int, default=5000, help="samples from the prior that FD-CNN is measured on")
    add("--seed", type=int, help="seed of all draws, also of binarised pixels (default: as the run)")
    add("--num_threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    add("--cpu", action="store_true", help="stay on the CPU even where there is a GPU")
    return parser.parse_args(argv)


@no_progress_bars()
def run(arguments: argparse.Namespace) -> None:
    for name, least in {"num_threads": 1, "num_samples": 1, "num_importance_samples": 0, "feature_size": 1}.items():
        if getattr(arguments, name) is not None and getattr(arguments, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(arguments, name)}.")
    torch.set_num_threads(arguments.num_threads)
    started = time.perf_counter()
    if arguments.seed is None:
        arguments.seed = read_record(arguments.run).get("seed", 0)
    folder = arguments.output_dir or default_folder(arguments.run)
    subject = load_subject(arguments, arguments.run)
    beside = None if arguments.beside is None else load_subject(arguments, arguments.beside)
    if beside is not None and beside.name == subject.name:
        subject.name, beside.name = arguments.run, arguments.beside
    check_gaps(arguments, subject, beside)
    judge = None if arguments.judge is None else load_judge(arguments.judge)
    net = feature_net(arguments.feature_model, arguments.feature_size, subject.held_out)
    nats = None if arguments.prior is None else nats_under(arguments.prior, subject)
    knobs = Knobs(
        judge, beside, arguments.num_importance_samples, arguments.num_samples, nats, net, arguments.feature_size
    )
    metrics = write_report(subject, folder, knobs, facts(arguments, subject))
    if net is not None:
        print(protocol_line(read_record(folder)["protocol"]))
    print(f"{len(metrics)} metrics in {time.perf_counter() - started:.0f} s: {folder / 'index.html'}")


def check_gaps(arguments: argparse.Namespace, *subjects: Subject | None) -> None:
    """Raises ValueError where --beside could show nothing."""
    for one in subjects if arguments.beside else ():
        if one.has_codes or not one.shows_digits:
            kind = "has codes instead" if one.has_codes else "shows no digits, which the judge knows"
            raise ValueError(f"--beside compares gaps of the latents of AE and VAE, but {one.name} {kind}.")


def nats_under(prior: str, subject: Subject) -> Callable[[Tensor], Tensor]:
    """Nats of codes under a prior. Classes are given only to a prior that cannot do without."""
    if not subject.has_codes:
        raise ValueError(f"--prior {prior}: {subject.name} has no codes, which a prior needs.")
    model = load_prior(prior).to(subject.model.device)
    needs_labels = sequencer_of(model).num_classes and not sequencer_of(model).class_dropout
    return code_nats(model, subject.model, subject.held_out.labels if needs_labels else None)


def default_folder(run: str) -> Path:
    if not Path(run).is_dir():
        raise ValueError(f"{run} is no folder here; of a model on the Hub, give --output_dir, for the report.")
    return Path(run) / "report"


def load_subject(arguments: argparse.Namespace, name: str) -> Subject:
    model = load_model(name)
    model.to("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    processor = load_processor(name)
    folder = Path(name) if Path(name).is_dir() else None
    images, binarize = load_data(arguments, name, processor.to_uint8)
    return Subject(
        name=Path(name).resolve().name if folder else name,
        model=model,
        train=images.train,
        held_out=images.eval,
        setting=data_setting(binarize, arguments.seed, model.config.num_channels),
        folder=folder,
        seed=arguments.seed,
        reading=describe_processor(processor),
    )


def load_data(arguments: argparse.Namespace, name: str, to_uint8: Any) -> tuple[ImageSplits, str]:
    """(images without flips and crops, how they are binarised), read as the run read them by default."""
    knobs = (*COLUMNS, "max_train_samples", "max_eval_samples")
    given = {knob: getattr(arguments, knob) for knob in knobs if getattr(arguments, knob) is not None}
    return images_of_run(name, to_uint8, arguments.dataset_name, arguments.binarize, arguments.seed, **given)


def facts(arguments: argparse.Namespace, subject: Subject) -> dict[str, str]:
    """How the report was made: facts for its head."""
    config = subject.model.config
    return {
        "model": f"{config.model_type}, {config.backbone} backbone, {config.reconstruction_loss} likelihood, "
        f"{sum(p.numel() for p in subject.model.parameters()):,} parameters",
        "data": f"{dataset_label(arguments)}: {len(subject.held_out):,} held-out pictures",
        "data setting": subject.setting,
        "seed": str(arguments.seed),
        "judge": describe_judge(arguments.judge),
        **({} if arguments.prior is None else {"prior": arguments.prior}),
        "command": shlex.join(["python", *sys.argv]),
    }


def describe_judge(path: str | None) -> str:
    """The net that judges class accuracy and gaps, and how often it is right on MNIST's test set."""
    net = WEIGHTS if path is None else path
    told = read_weights_metadata(net)
    accuracy = f"{100 * float(told['test_accuracy']):.2f} % right" if "test_accuracy" in told else "accuracy unknown"
    return f"{path or 'the feature net of the package, for gaps only'} (seed {told.get('seed', 'unknown')}, {accuracy})"


def dataset_label(arguments: argparse.Namespace) -> str:
    """The data set's name: of a local folder its last part."""
    name = arguments.dataset_name or read_record(arguments.run).get("dataset", {}).get("name", "unknown data")
    return Path(name).name if Path(name).exists() or name.startswith((".", "/")) else name


if __name__ == "__main__":
    sys.exit(main())
