# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Eight quantizers in one net:  python scripts/bake_off.py --output_dir runs/bake-off

Fashion-MNIST, 7x7 codes of 512, 64 numbers each, between encoder and decoder of 32 channels: 3 epochs, 3 seeds. Each
run is one of scripts/train.py in a process of its own; runs that are finished are not repeated, so the same command
continues after an interruption. Writes OUTPUT/bake_off.json and OUTPUT/bake_off.md: means over the seeds +- standard
deviation, of metrics of the whole test set.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import hf_autoencoders  # noqa: F401  (registers the four models with the Auto classes)
from hf_autoencoders.training.knobs import parse_arguments


TRAIN = Path(__file__).resolve().parent / "train.py"

# The quantizers with their defaults: only `ema` and `residual`, whose codebooks are moving averages, start from data
# and revive dead codes; the others start from small random numbers as in the papers.
QUANTIZERS = {
    "vq": "--quantizer vq",
    "ema": "--quantizer ema",
    "l2": "--quantizer l2",
    "rotation": "--quantizer vq --gradient rotation",
    "fsq": "--quantizer fsq --fsq_levels 8 8 8",
    "simvq": "--quantizer simvq",
    "residual": "--quantizer residual --num_quantizers 2",
    "gumbel": "--reconstruction_loss mse --learned_variance true --kl_weight_start 0 --kl_weight_steps 500"
    " --gumbel_temperature_start 1 --gumbel_temperature 0.0625 --gumbel_temperature_steps 1200",
}
ABOUT = {
    "vq": "codebook loss",
    "ema": "moving averages, starts from data, revives dead codes",
    "l2": "codebook loss on the unit sphere",
    "rotation": "vq with the gradient of the rotation trick",
    "fsq": "8 x 8 x 8 grid, nothing to learn",
    "simvq": "fixed codebook under a learned linear map",
    "residual": "two ema codes at each position: 18 bits, where the others have 9",
    "gumbel": "another objective: dVAE, an ELBO with a learned variance, temperature 1 to 1/16",
}
NET = "--backbone conv --codebook_size 512 --codebook_dim 64 --learning_rate 1e-3 --lr_scheduler cosine"
MEASURES = {  # name in metrics.json -> title of the column
    "mse": "MSE",
    "codebook_usage": "usage",
    "perplexity": "perplexity",
    "images_per_second": "images/s",
}
DOES_NOT_COUNT = {"output_dir", "overwrite", "logging_steps"}  # these knobs do not change the result of a run


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 a run failed, 2 a mistake in the arguments."""
    arguments = read_arguments(argv)
    try:
        runs = [finished_run(arguments, name, seed) for seed in arguments.seeds for name in arguments.quantizers]
    except ValueError as error:
        print(f"bake_off.py: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"bake_off.py: train.py ended with {error.returncode}: {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    result = summary(arguments, runs)
    (arguments.output_dir / "bake_off.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = markdown(result["rows"])
    (arguments.output_dir / "bake_off.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output_dir", type=Path, default=Path("runs/bake-off"), help="folder for the runs and the tables")
    names = list(QUANTIZERS)
    add("--quantizers", nargs="+", choices=names, default=names, metavar="NAME", help=" ".join(names))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--dataset_name", default="zalando-datasets/fashion_mnist", help="Hub id, folder, or 'digits'")
    add("--num_train_epochs", type=float, default=3.0)
    add("--train_batch_size", type=int, default=128)
    add(
        "--block_out_channels",
        nargs="+",
        type=int,
        default=[32, 32, 32],
        help="channels of each level; one level more than the net halves the picture",
    )
    add("--max_train_samples", type=int, help="train on only the first so many images")
    add("--num_threads", type=int, help="CPU threads (default: all cores); images/s depend on it")
    return parser.parse_args(argv)


def flags(arguments: argparse.Namespace, name: str, seed: int) -> list[str]:
    """The flags of train.py for one run."""
    shared = {
        "dataset_name": arguments.dataset_name,
        "num_train_epochs": arguments.num_train_epochs,
        "train_batch_size": arguments.train_batch_size,
        "seed": seed,
        "max_train_samples": arguments.max_train_samples,
        "num_threads": arguments.num_threads,
    }
    widths = ["--block_out_channels", *map(str, arguments.block_out_channels)]
    model = f"--model_type {'dvae' if name == 'gumbel' else 'vqvae'}"
    given = [f"--{knob}={value}" for knob, value in shared.items() if value is not None]
    return [*model.split(), *QUANTIZERS[name].split(), *NET.split(), *widths, *given, "--eval_batch_size=500"]


def finished_run(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """The metrics of this run, which is trained first if it is not there yet.

    Raises:
        ValueError: its folder holds a run of other knobs.
    """
    folder = arguments.output_dir / f"{name}-seed{seed}"
    wanted = flags(arguments, name, seed)
    metrics = folder / "metrics.json"
    if not metrics.exists():
        print(f"-- {name}, seed {seed}", flush=True)
        here = [f"--output_dir={folder}", "--overwrite", "--logging_steps=200"]
        subprocess.run([sys.executable, str(TRAIN), *wanted, *here], check=True)
    record = json.loads(metrics.read_text(encoding="utf-8"))
    if counting(record["settings"]) != counting(parse_arguments(wanted).as_recipe()):
        raise ValueError(f"{folder} holds a run of other knobs: delete it, or give another --output_dir.")
    return {"quantizer": name, "seed": seed, "seconds": record["seconds"], **measured(record)}


def counting(settings: dict[str, Any]) -> dict[str, Any]:
    """The knobs that decide what a run measures."""
    return {name: value for name, value in settings.items() if name not in DOES_NOT_COUNT}


def measured(record: dict[str, Any]) -> dict[str, float]:
    speed = record["steps"] * record["global_batch_size"] / record["seconds"]
    metrics = {**record["metrics"], "images_per_second": speed}
    return {name: metrics[name] for name in MEASURES}


def summary(arguments: argparse.Namespace, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings, a row for each quantizer with {"mean", "std"} of each metric over the seeds, and the runs."""
    rows = []
    for name in arguments.quantizers:
        mine = [run for run in runs if run["quantizer"] == name]
        metrics = {measure: mean_and_std([run[measure] for run in mine]) for measure in MEASURES}
        rows.append({"quantizer": name, "about": ABOUT[name], "runs": len(mine), **metrics})
    asked = {key: value for key, value in vars(arguments).items() if key != "output_dir"}
    return {"settings": asked, "net": NET, "rows": rows, "runs": runs}


def mean_and_std(values: list[float]) -> dict[str, float]:
    """
    >>> mean_and_std([1.0, 2.0, 3.0])
    {'mean': 2.0, 'std': 1.0}
    """
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def markdown(rows: list[dict[str, Any]]) -> str:
    head = ["quantizer", *MEASURES.values(), "what it is"]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(MEASURES)}---|"]
    for row in rows:
        cells = [f"`{row['quantizer']}`", *(shown(row[name], row["runs"]) for name in MEASURES), row["about"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shown(value: dict[str, float], runs: int) -> str:
    """
    >>> shown({"mean": 0.01234, "std": 0.0005}, 3), shown({"mean": 0.01234, "std": 0.0}, 1)
    ('0.01234 +- 0.0005', '0.01234')
    """
    return f"{value['mean']:.4g}" + (f" +- {value['std']:.2g}" if runs > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
