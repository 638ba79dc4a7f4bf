# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Published figures and what was measured for them: docs/results.json.

RUN/metrics.json, RUN/report/metrics.json
  | measure            one entry: published, to reach, measured, how; `missed` follows from the numbers
docs/results.json
  | results_page.py    docs/RESULTS.md and model_cards/<recipe>.md, which nobody edits
"""

import json
import operator
import re
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..evaluation.likelihood import data_setting
from ..training.knobs import parse_arguments
from ..training.recipes import recipe_flags
from ..training.run_files import PICTURE
from .cards import RunError, SavedRun, number, read_json, read_run


# Paths below the checkout.
RESULTS, RECIPES, PICTURES_OF_CARDS = "docs/results.json", "scripts/recipes", "model_cards/images"
LARGEST_PICTURE = 30_000  # bytes of a picture that goes with a card

COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}

# Knobs that decide nothing that is measured.
IDLE = frozenset(
    ["logging_steps", "eval_steps", "image_steps", "checkpointing_steps", "checkpoints_total_limit", "report_to", "cpu"]
)
# Of a run, but not for docs/results.json: long lists, and what only its own folder can show.
LEFT_OUT = ("code_histogram", "example_image_tokens")
# Of a report: what stands beside a run's own metrics.
LIKELIHOOD_METRICS = tuple(f"likelihood_{name}" for name in (
    "images", "num_samples", "importance_bound", "importance_standard_error", "active_units", "units",
))  # fmt: skip


@dataclass(frozen=True)
class ResultToReach:
    """A number to reach.

    Attributes:
        title: model and data.
        metric: its name in metrics.json of the run, or of its report.
        unit: what the number counts.
        published: the number as published, None where nobody published one.
        source: who published it.
        comparison: one of COMPARISONS, between the measured number and `target`; None: nothing to reach.
        target: a number; None: the same metric of another run, `other`.
        other: what the other run is.
        factor: of the other run's number, which the measured one is compared with.
        needs: other metrics that must have these values, or the figure would be a different one.
        same: knobs that the other run must share; the seed is always one of them.
        minutes: in which the run must be trained, too.
    """

    title: str
    metric: str
    unit: str
    published: str | None = None
    source: str | None = None
    comparison: str | None = None
    target: float | None = None
    other: str | None = None
    factor: float = 1.0
    needs: tuple[tuple[str, float], ...] = ()
    same: tuple[str, ...] = ()
    minutes: float | None = None


L_5000 = (("likelihood_num_samples", 5000), ("likelihood_images", 10000))
SAME_NET = (
    "backbone", "block_out_channels", "hidden_sizes", "latent_channels", "codebook_size", "codebook_dim",
    "train_batch_size", "learning_rate", "optimizer",
)  # fmt: skip
SAME_NET_AND_EPOCHS = (*SAME_NET, "num_train_epochs")
ERROR = "mean squared error of the test pictures, pixels in [0, 1]"
SAME_PHOTOS = (*SAME_NET, "max_train_steps", "image_size", "feature_model", "feature_size")
PERCEPTUAL_VQVAE = "VQ-VAE, photographs of 128 pixels: perceptual loss"
ADVERSARIAL_VQVAE = "VQ-VAE, photographs of 128 pixels: perceptual and adversarial loss"
ADVERSARIAL_VAE = "VAE, photographs of 128 pixels: perceptual and adversarial loss"
FRECHET = "Frechet distance of the reconstructed test pictures, features of a net that is not in the loss"
ENERGY = "gradient energy of the reconstructed test pictures over that of the pictures"
BURDA = "Burda et al. 2016, table 1"
DALLE = "Ramesh et al. 2021, appendix A (in words)"
VQ_WAE = "Vuong et al. 2023, table 1"


def beside_squared_error(title: str, metric: str, unit: str, factor: float, why: str = "") -> ResultToReach:
    """At most `factor` times the number of the same net that is trained by its squared error alone."""
    return ResultToReach(
        title, metric, unit, comparison="<=", other=f"squared error alone{why}", factor=factor, same=SAME_PHOTOS
    )


RESULTS_TO_REACH = {
    "deep-ae": ResultToReach(
        "Deep autoencoder, 30 numbers a picture, MNIST", "squared_error", "squared error per test picture",
        "3.00 (30 principal components: 13.87)", "Hinton & Salakhutdinov 2006, figure 2", "<=", 3.0,
    ),
    "vae-likelihood": ResultToReach(
        "VAE, 50 units, 2x200 tanh, dynamically binarised MNIST", "likelihood_importance_bound",
        "-L_5000, nats per test picture", "86.76", BURDA, "<=", 86.8, needs=L_5000, minutes=60,
    ),
    "iwae-likelihood": ResultToReach(
        "The same net trained by the importance weighted bound, k = 5", "likelihood_importance_bound",
        "-L_5000, nats per test picture", "85.54", BURDA, "<=", 86.0, needs=L_5000, minutes=60,
    ),
    "active-units": ResultToReach(
        "IWAE, k = 5, against the VAE", "likelihood_active_units", "active units of 50", "22, against 19", BURDA,
        ">", other="the VAE", needs=(("likelihood_images", 10000),), same=SAME_NET,
    ),
    "keras-vqvae": ResultToReach(
        "VQ-VAE, 7x7 codes of 128, MNIST", "nmse", "NMSE of the test pictures", "0.0444",
        "Keras' VQ-VAE example, 30 epochs, training pictures", "<=", 0.042,
    ),
    "codebook-512": ResultToReach(
        "VQ-VAE, 8x8 codes of 512, MNIST padded to 32x32", "perplexity", "perplexity over the whole test set",
        "301.8 (SQ-VAE), 507.7 (VQ-WAE)", VQ_WAE, ">=", 350.0,
    ),
    "codebook-512-plain": ResultToReach(
        "The same net with the codebook loss", "perplexity", "perplexity over the whole test set", "47.2 (VQ-VAE)",
        VQ_WAE,
    ),
    "codebook-512-error": ResultToReach(
        "VQ-VAE, 8x8 codes of 512, against the codebook loss", "mse", ERROR,
        comparison="<", other="with the codebook loss", same=SAME_NET_AND_EPOCHS,
    ),
    "fashion-codes": ResultToReach(
        "VQ-VAE, 14x14 codes of 512, Fashion-MNIST, 5 epochs", "codes_used", "codes used over the training set",
        "17 (codebook loss), 201 (moving averages), 457 (lattice)", "Khalil et al. 2023", ">=", 457.0,
    ),
    "dvae-temperature": ResultToReach(
        "dVAE, MNIST: temperature annealed to 1/16", "elbo_gap", "relaxed minus hard ELBO, nats per test picture",
        "the gap closes", DALLE, "<", other="at a fixed temperature of 1", same=SAME_NET_AND_EPOCHS,
    ),
    "dvae-usage": ResultToReach(
        "dVAE, MNIST: kl_weight 6.6", "perplexity", "perplexity over the whole test set", "codebook usage rises", DALLE,
        ">", other="with kl_weight 0", same=SAME_NET_AND_EPOCHS,
    ),
    "dvae-error": ResultToReach(
        "dVAE, MNIST: kl_weight 6.6", "mse", ERROR, "the reconstruction error falls", DALLE,
        "<", other="with kl_weight 0", same=SAME_NET_AND_EPOCHS,
    ),
    "photos-perceptual": beside_squared_error(PERCEPTUAL_VQVAE, "frechet_distance", FRECHET, 0.6),
    "photos-perceptual-error": beside_squared_error(
        PERCEPTUAL_VQVAE, "mse", ERROR, 1.0715, " (0.3 dB are a factor of 1.07)"
    ),
    "photos-adversarial": beside_squared_error(ADVERSARIAL_VQVAE, "frechet_distance", FRECHET, 0.45),
    "photos-adversarial-error": beside_squared_error(
        ADVERSARIAL_VQVAE, "mse", ERROR, 1.2589, " (1 dB is a factor of 1.26)"
    ),
    "photos-adversarial-energy": ResultToReach(
        ADVERSARIAL_VQVAE, "gradient_energy", ENERGY, comparison=">=", target=0.8,
    ),
    "vae-photos-adversarial": beside_squared_error(ADVERSARIAL_VAE, "frechet_distance", FRECHET, 0.45),
    "vae-photos-adversarial-error": beside_squared_error(
        ADVERSARIAL_VAE, "mse", ERROR, 1.2589, " (1 dB is a factor of 1.26)"
    ),
    "ae-plane": ResultToReach(
        "AE, 2 numbers a picture, MNIST", "negative_log_likelihood", "cross-entropy, nats per test picture",
    ),
    "vae-plane": ResultToReach(
        "VAE, 2 numbers a picture, MNIST", "elbo", "ELBO with grey levels, nats per test picture",
    ),
    "dvae": ResultToReach(
        "dVAE, 7x7 codes of 128, MNIST", "elbo", "hard ELBO with grey levels, nats per test picture",
    ),
}  # fmt: skip


# -- one run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A run as docs/results.json tells of it: repeatable by anyone, without this machine's paths.

    Attributes:
        run: with the report's likelihoods beside its own metrics, and names of data sets instead of folders.
        recipe: its name.
        command: to be typed in a checkout.
        evaluation: command of the report, where figures come from there.
        as_recipe: the recipe was followed without changes.
    """

    run: SavedRun
    recipe: str
    command: str
    evaluation: str | None
    as_recipe: bool


def read_measured(folder: str | Path, root: Path) -> Measured:
    """Reads a run of a recipe of the checkout `root`.

    Raises:
        RunError: the folder holds no finished run, or none that a recipe of this checkout repeats.
    """
    run = read_run(folder)
    recipe = recipe_of(run)
    path = root / RECIPES / f"{recipe}.yaml"
    if not path.is_file():
        raise RunError(f"{folder} was trained by the recipe {recipe!r}, which is not in {RECIPES}.")
    planned = knobs_of_flags(["--recipe", str(path)])
    settings = {name: value for name, value in run.record["settings"].items() if name not in IDLE}
    settings["dataset_name"] = shared_name(settings["dataset_name"], planned["dataset_name"])
    changed = {name: value for name, value in settings.items() if planned.get(name) != value}
    unset = planned.keys() - settings.keys() - IDLE - ({"num_train_epochs"} if "max_train_steps" in settings else set())
    changed |= dict.fromkeys(sorted(unset), "null")  # left the recipe's knob at its default
    as_recipe = not changed.keys() - {"num_threads"}
    name = recipe if as_recipe else Path(folder).resolve().name
    place = [] if as_recipe else [f"--output_dir=runs/{name}"]
    flags = ["--recipe", f"{RECIPES}/{path.name}", *recipe_flags(changed), *place]
    command = shlex.join(["accelerate", "launch", "scripts/train.py", *flags])
    likelihoods, evaluation = read_report(Path(folder), name, setting_of(run))
    record = {key: value for key, value in run.record.items() if key not in LEFT_OUT}
    record |= {"settings": settings, "command": command, "metrics": {**run.metrics, **likelihoods}}
    record["dataset"] = {**run.dataset, "name": settings["dataset_name"]}
    return Measured(replace(run, record=record), recipe, command, evaluation, as_recipe)


def setting_of(run: SavedRun) -> str:
    """The data setting of the pictures that a run was trained on."""
    return data_setting(run.dataset.get("binarize", "none"), run.record["seed"], run.config.num_channels)


def recipe_of(run: SavedRun) -> str:
    words = [word for part in shlex.split(run.record.get("command", "")) for word in part.split("=", 1)]
    if "--recipe" not in words[:-1]:
        raise RunError(f"{run.folder} does not say which recipe it was trained by.")
    return Path(words[words.index("--recipe") + 1]).stem


def knobs_of_flags(flags: list[str]) -> dict[str, Any]:
    """The knobs that these flags of train.py set, as metrics.json holds them."""
    return json.loads(json.dumps(parse_arguments(flags).as_recipe()))


def shared_name(dataset: str, planned: str) -> str:
    """A data set by the name that others know it by; a local copy of the recipe's is the recipe's.

    >>> shared_name("../data/mnist", "ylecun/mnist"), shared_name("/data/faces", "ylecun/mnist")
    ('ylecun/mnist', 'FOLDER')
    """
    if dataset == planned or Path(dataset).name == Path(planned).name:
        return planned
    return dataset if re.fullmatch(r"[\w-]+(/[\w.-]+)?", dataset) else "FOLDER"


def read_report(folder: Path, name: str, setting: str) -> tuple[dict[str, Any], str | None]:
    """(likelihoods of RUN/report/metrics.json, the command that measured them); ({}, None) without a report.

    Raises:
        RunError: the report is of other data than the run's `setting`.
    """
    path = folder / "report" / "metrics.json"
    if not path.is_file():
        return {}, None
    report = read_json(path, "the report of scripts/evaluate_model.py")
    metrics = report.get("metrics", {})
    likelihoods = {key: metrics[key] for key in LIKELIHOOD_METRICS if key in metrics}
    if "likelihood_num_samples" not in likelihoods:
        return {}, None
    if report.get("data_setting") != setting:
        raise RunError(f"{path} is of {report.get('data_setting')} pixels, but the run of {setting} ones.")
    samples = likelihoods["likelihood_num_samples"]
    return likelihoods, f"python scripts/evaluate_model.py runs/{name} --num_importance_samples {samples}"


# -- one figure --------------------------------------------------------------------------------------------------------


def measure(name: str, measured: Measured, other: Measured | None = None, note: str | None = None) -> dict[str, Any]:
    """One entry of docs/results.json.

    Raises:
        RunError: no figure of this name, a metric that the run lacks, or a second run missing or not needed.
    """
    if name not in RESULTS_TO_REACH:
        raise RunError(f"There is no figure {name!r}; there are {', '.join(RESULTS_TO_REACH)}.")
    figure = RESULTS_TO_REACH[name]
    if (figure.other is None) != (other is None):
        wants = f"needs a second run ({figure.other}): --against" if figure.other else "compares no second run"
        raise RunError(f"The figure {name} {wants}.")
    if other is not None:
        check_comparison(figure, measured, other)
    value = value_of(figure, measured)
    against, target = None, figure.target
    if other is not None:
        target = value_of(figure, other)
        against = {"what": figure.other, "measured": target, **how(figure, other)}
        target = figure.factor * target
    reached = figure.comparison is None or COMPARISONS[figure.comparison](value, target)
    in_time = figure.minutes is None or measured.run.record["seconds"] <= 60 * figure.minutes
    return {
        "figure": name,
        "title": figure.title,
        "unit": figure.unit,
        "published": figure.published,
        "source": figure.source,
        "to_reach": to_reach(figure, target),
        "measured": value,
        "missed": not (reached and in_time),
        **how(figure, measured),
        "against": against,
        "note": note,
    }


def check_comparison(figure: ResultToReach, measured: Measured, other: Measured) -> None:
    """Raises RunError where two runs differ in more than what they are compared for."""
    one, two = ({**run.run.record["settings"], "seed": run.run.record["seed"]} for run in (measured, other))
    for knob in ("seed", *figure.same):
        if one.get(knob) != two.get(knob):
            raise RunError(f"{figure.title}: the runs differ in {knob}, {one.get(knob)} and {two.get(knob)}.")


def to_reach(figure: ResultToReach, target: float | None) -> str | None:
    """In words; None where there is nothing to reach."""
    if figure.comparison is None:
        return None
    within = "" if figure.minutes is None else f", trained within {figure.minutes:g} minutes"
    return f"{figure.comparison} {number(target)}{within}"


def value_of(figure: ResultToReach, measured: Measured) -> float:
    metrics, folder = measured.run.metrics, measured.run.folder
    for name, value in figure.needs:
        if metrics.get(name) != value:
            raise RunError(f"{folder}: {figure.unit} needs {name} = {value}, got {metrics.get(name)}.")
    if figure.metric not in metrics:
        raise RunError(f"{folder} has no {figure.metric}; it has {', '.join(metrics)}.")
    return metrics[figure.metric]


def how(figure: ResultToReach, measured: Measured) -> dict[str, Any]:
    """Recipe, command, knobs, seed, seconds, device, threads, data and day of a run."""
    record, dataset = measured.run.record, measured.run.dataset
    from_report = figure.metric.startswith("likelihood_")
    images = measured.run.metrics["likelihood_images" if from_report else "images"]
    return {
        "recipe": measured.recipe,
        "command": measured.command,
        "settings": record["settings"],
        "evaluation": measured.evaluation if from_report else None,
        "seed": record["seed"],
        "seconds": round(record["seconds"], 1),
        "device": record["device"],
        "threads": record["settings"].get("num_threads"),
        "data": f"{dataset['name']}, {images:,.0f} pictures of {dataset['eval_split']!r}, {setting_of(measured.run)}",
        "date": record.get("date"),
    }


# -- docs/results.json -------------------------------------------------------------------------------------------------


def load_results(root: Path) -> dict[str, Any]:
    """{"figures": entries, "bake_off": table or None, "negative": sentences, "runs": recipe -> config and record}"""
    path = root / RESULTS
    empty = {"figures": [], "bake_off": None, "negative": [], "runs": {}}
    return {**empty, **read_json(path, "start with update_results.py add")} if path.exists() else empty


def write_results(results: dict[str, Any], root: Path) -> None:
    (root / RESULTS).write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def put_entry(results: dict[str, Any], entry: dict[str, Any]) -> None:
    """Adds an entry in the order of RESULTS_TO_REACH; one of the same figure and command is replaced."""
    same = ("figure", "command")
    kept = [old for old in results["figures"] if any(old[key] != entry[key] for key in same)]
    results["figures"] = sorted([*kept, entry], key=lambda one: list(RESULTS_TO_REACH).index(one["figure"]))


def put_card(results: dict[str, Any], measured: Measured, root: Path) -> None:
    """Keeps what a card of this recipe shows, and its picture if it is small."""
    config = read_json(measured.run.folder / "config.json", "the model's config")
    of_transformers = ("auto_map", "architectures", "transformers_version", "dtype")
    config = {name: value for name, value in config.items() if name not in of_transformers}
    results["runs"][measured.recipe] = {"config": config, "record": measured.run.record}
    results["runs"] = dict(sorted(results["runs"].items()))
    picture, place = measured.run.folder / PICTURE, root / PICTURES_OF_CARDS / measured.recipe
    if picture.is_file() and picture.stat().st_size <= LARGEST_PICTURE:
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, place / PICTURE)


def put_bake_off(results: dict[str, Any], folder: Path) -> None:
    """The table that scripts/bake_off.py left in `folder`."""
    result = read_json(folder / "bake_off.json", "the table of scripts/bake_off.py")
    settings = dict(result["settings"])
    dataset = shared_name(settings.pop("dataset_name"), "zalando-datasets/fashion_mnist")
    settings = {name: value for name, value in settings.items() if value is not None}
    place = [] if dataset == "zalando-datasets/fashion_mnist" else [f"--dataset_name={dataset}"]
    command = shlex.join(["python", "scripts/bake_off.py", *place, *recipe_flags(settings)])
    kept = {name: result[name] for name in ("net", "rows", "runs")}
    results["bake_off"] = {"command": command, "data": dataset, **kept}
