# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A model card from what a run measured: `metrics.json`, the model's config, and nothing else.

metrics.json  -> table of the card, `model-index` in its header, `.eval_results/*.yaml`
config.json   -> what the model is, settings, the shapes in the code examples
templates/run.md -> the words around them (Jinja)
"""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from transformers import AutoConfig, PreTrainedConfig

from ..models.model_card import PIN_THE_CODE
from ..training.starting_point import base_model_of, parent_on_card
from ..training.text import cell, fenced, is_hub_id, one_line, plain_text


RUN_TEMPLATE = Path(__file__).parent / "templates" / "run.md"


class RunError(ValueError):
    """A run from which no honest card can be written; the message is one line."""


# -- what a run left ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedRun:
    """The folder that train.py leaves, read once.

    Attributes:
        folder: where it lies.
        config: of the model.
        record: all of metrics.json: `metrics` (name -> number), and how they came about (`dataset`, `seed`, ...).
    """

    folder: Path
    config: PreTrainedConfig
    record: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        return self.record["metrics"]

    @property
    def dataset(self) -> dict[str, Any]:
        """Name, split, ... of the data that the metrics were measured on; {} if the run does not say."""
        dataset = self.record.get("dataset") or {}
        return dataset if isinstance(dataset, dict) else {"name": str(dataset)}

    @property
    def measured_on_training_images(self) -> bool:
        """Codes used over the training set, as some published figures count them."""
        return "eval_split" in self.dataset and self.dataset["eval_split"] == self.dataset.get("train_split")

    @property
    def dataset_name(self) -> str:
        return str(self.dataset.get("name") or self.dataset.get("dataset_name") or "unknown")

    @property
    def dataset_label(self) -> str:
        """The name to show, which is a Hub id as it is, of a local folder its last part."""
        return self.hub_dataset or Path(self.dataset_name).name

    @property
    def hub_dataset(self) -> str | None:
        """The data set's Hub id, None for a local folder or embedded data."""
        return self.dataset_name if is_hub_id(self.dataset_name) else None

    @property
    def base_model(self) -> str | None:
        """The Hub id of the model that the run started from; None for a local folder or random weights."""
        return base_model_of(self.record)


def read_run(folder: str | Path) -> SavedRun:
    """Reads config.json and metrics.json of a run.

    Raises:
        RunError: a file is missing or unreadable, or there is no finite metric to put on a card.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}; a run is the folder that `hf-autoencoders train` leaves.")
    read_json(folder / "config.json", "the model's config; save the model with save_pretrained")
    record = read_json(folder / "metrics.json", "a card shows only what was measured; train the model first")
    check_metrics(folder / "metrics.json", record)
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:  # strict configs raise classes of their own, none of them a ValueError
        raise RunError(f"{folder / 'config.json'} is no config of this package: {one_line(error)}") from error
    return SavedRun(folder, config, record)


def read_json(path: Path, purpose: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing ({purpose}).") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} must hold a JSON object, got {type(content).__name__}.")
    return content


def check_metrics(path: Path, record: dict[str, Any]) -> None:
    metrics = record.get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        raise RunError(f"{path} has no `metrics`: a card shows only what was measured, and nothing was.")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise RunError(f"{path}: the metric {name} must be a finite number, got {value!r}.")


# -- words -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    title: str
    idea: str
    citation: str


FAMILIES = {
    "ae": Family(
        "autoencoder",
        "An encoder presses a picture into a few numbers, a decoder draws it again from them.",
        """@article{hinton2006reducing,
  title   = {Reducing the Dimensionality of Data with Neural Networks},
  author  = {Hinton, Geoffrey E. and Salakhutdinov, Ruslan R.},
  journal = {Science},
  volume  = {313},
  pages   = {504--507},
  year    = {2006}
}""",
    ),
    "vae": Family(
        "variational autoencoder (VAE)",
        "The encoder gives a normal distribution over latents, the decoder draws a picture from a sample of it; new "
        "pictures come from the standard normal prior.",
        """@inproceedings{kingma2014auto,
  title     = {Auto-Encoding Variational {B}ayes},
  author    = {Kingma, Diederik P. and Welling, Max},
  booktitle = {International Conference on Learning Representations},
  year      = {2014},
  eprint    = {1312.6114}
}""",
    ),
    "vqvae": Family(
        "vector-quantised autoencoder (VQ-VAE)",
        "The encoder gives a grid of vectors, each is replaced by its nearest code of a learned codebook: a picture "
        "becomes a grid of integers, from which the decoder draws it again.",
        """@inproceedings{oord2017neural,
  title     = {Neural Discrete Representation Learning},
  author    = {van den Oord, A{\\"a}ron and Vinyals, Oriol and Kavukcuoglu, Koray},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2017},
  eprint    = {1711.00937}
}""",
    ),
    "dvae": Family(
        "discrete variational autoencoder (dVAE)",
        "The encoder gives a categorical distribution over codes for each place of a grid, trained through the "
        "Gumbel-softmax relaxation: a picture becomes a grid of integers, from which the decoder draws it again.",
        """@inproceedings{ramesh2021zero,
  title     = {Zero-Shot Text-to-Image Generation},
  author    = {Ramesh, Aditya and Pavlov, Mikhail and Goh, Gabriel and Gray, Scott and Voss, Chelsea and Radford, Alec
               and Chen, Mark and Sutskever, Ilya},
  booktitle = {International Conference on Machine Learning},
  year      = {2021},
  eprint    = {2102.12092}
}""",
    ),
}


# What evaluation/metrics.py measures: title and unit. A metric of another name is shown under its own name.
METRIC_TITLES = {
    "images": ("Images measured", "images"),
    "mse": ("Mean squared error", "pixels in [0, 1]"),
    "nmse": ("Normalised mean squared error", "share of the pixels' variance"),
    "squared_error": ("Squared error", "summed over an image, pixels in [0, 1]"),
    "gradient_energy": ("Gradient energy", "of reconstructions over that of the pictures; below 1: blurred"),
    "psnr": ("PSNR", "dB"),
    "ssim": ("SSIM", "1 is equal"),
    "negative_log_likelihood": ("Negative log-likelihood of the reconstruction", "nats per image"),
    "kl": ("KL divergence to the prior", "nats per image"),
    "elbo": ("ELBO", "nats per image"),
    "relaxed_elbo": ("ELBO, relaxed codes", "nats per image"),
    "hard_elbo": ("ELBO, sampled codes", "nats per image"),
    "elbo_gap": ("ELBO, relaxed minus sampled codes", "nats per image"),
    "bits_per_dim_continuous": ("Bits per dimension, of the density", "bits"),
    "bits_per_dim_discrete": ("Bits per dimension, of binary pixels", "bits"),
    "likelihood_images": ("Images of the bound and of the units below", "images"),
    "likelihood_num_samples": ("Samples an image of the importance weighted bound", "samples"),
    "likelihood_importance_bound": ("Importance weighted bound of -ln p(x)", "nats per image"),
    "likelihood_importance_standard_error": ("Its standard error as a mean over images", "nats per image"),
    "likelihood_active_units": ("Active latent units", "units"),
    "likelihood_units": ("Latent units", "units"),
    "bernoulli_floor": ("Entropy of the grey levels themselves", "nats per image"),
    "perplexity": ("Codebook perplexity", "codes"),
    "codebook_usage": ("Codebook usage", "share of the codes"),
    "codes_used": ("Codes used", "codes"),
    "codes_total": ("Codes in the codebook", "codes"),
    "loss": ("Training loss on these images", "the model's own scale"),
    "reconstruction_loss": ("Training loss: reconstruction term", "mean over pixels"),
    "codebook_loss": ("Training loss: codebook term", "mean over latents"),
    "commitment_loss": ("Training loss: commitment term, unweighted", "mean over latents"),
}


def metric_title(name: str) -> str:
    return METRIC_TITLES[name][0] if name in METRIC_TITLES else name


def metric_unit(name: str) -> str:
    return METRIC_TITLES[name][1] if name in METRIC_TITLES else ""


def metric_rows(metrics: dict[str, float]) -> list[tuple[str, str, str]]:
    """Title, value and unit of each metric, in the order of METRIC_TITLES, those of other names last."""
    order = [
        *(name for name in METRIC_TITLES if name in metrics),
        *(name for name in metrics if name not in METRIC_TITLES),
    ]
    return [(metric_title(name), number(metrics[name]), metric_unit(name)) for name in order]


def number(value: float) -> str:
    """Four digits that count; whole numbers as they are.

    >>> number(0.012346), number(23.456), number(-104.26), number(512.0), number(12345.6)
    ('0.01235', '23.46', '-104.3', '512', '12346')
    """
    if isinstance(value, int) or float(value).is_integer() or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"


# -- the card ----------------------------------------------------------------------------------------------------------


def build_card(run: SavedRun, repo_id: str, template: str | Path | None = None) -> ModelCard:
    """The card of a run under the name `repo_id`, from `template` (default: templates/run.md beside this file)."""
    template = Path(template or RUN_TEMPLATE)
    if not template.is_file():
        raise RunError(f"There is no card template {template}; `template` is the path of a Jinja template.")
    config, pictures = run.config, {path.name for path in run.folder.glob("*.png")}
    return ModelCard.from_template(
        card_data(run, repo_id),
        template_path=str(template),
        repo_id=repo_id,
        name=repo_id.split("/")[-1],
        family=FAMILIES[config.model_type],
        config=config,
        has_tokens=hasattr(config, "codebook_size"),
        token_shape=token_shape(config),
        pixel_shape=(1, config.num_channels, config.height, config.width),
        pictures=pictures,
        metrics=[(cell(title), value, cell(unit)) for title, value, unit in metric_rows(run.metrics)],
        dataset=plain_text(run.dataset_label),
        fenced=fenced,
        pin_the_code=PIN_THE_CODE,
        measured_on="training" if run.measured_on_training_images else "held-out",
        hub_dataset=run.hub_dataset,
        origin=parent_on_card(run.record),
        facts=[(title, cell(text)) for title, text in training_facts(run)],
        settings=[(name, cell(value)) for name, value in model_settings(config)],
        command=run.record.get("command"),
        recipe=yaml.safe_dump(run.record["settings"], sort_keys=False) if run.record.get("settings") else None,
        printed=example_tokens(run),
    )


def card_data(run: SavedRun, repo_id: str) -> ModelCardData:
    """The YAML header: what the Hub filters by, and the metrics as `model-index`."""
    experiment = {
        "task_type": "image-to-image",
        "task_name": "Image reconstruction",
        "dataset_type": run.dataset_name,
        "dataset_name": run.dataset_label,
        "dataset_split": run.dataset.get("eval_split"),
    }
    results = [
        EvalResult(**experiment, metric_type=name, metric_name=metric_title(name), metric_value=value)
        for name, value in run.metrics.items()
    ]
    return ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        tags=["hf_autoencoders", "autoencoder", "image-reconstruction", run.config.model_type]
        + (["image-tokenizer"] if hasattr(run.config, "codebook_size") else []),
        datasets=[run.hub_dataset] if run.hub_dataset else None,
        base_model=run.base_model,
        model_name=repo_id.split("/")[-1],
        eval_results=results,
    )


def eval_results_yaml(run: SavedRun) -> tuple[str, str] | None:
    """Path and text of the `.eval_results` file, from which the Hub shows numbers beside the data set.

    None if the data set is not on the Hub: each entry must name one that is.
    """
    if run.hub_dataset is None:
        return None
    notes = f"seed {run.record['seed']}" if "seed" in run.record else None
    entries = [
        EvalResultEntry(run.hub_dataset, task_id=name, value=value, date=run.record.get("date"), notes=notes)
        for name, value in run.metrics.items()
    ]
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return f".eval_results/{run.hub_dataset.split('/')[-1]}.yaml", text


def token_shape(config: PreTrainedConfig) -> tuple[int, ...]:
    """Shape of the tokens of one picture: (1, h, w), with a depth behind for several codes at a place."""
    depth = getattr(config, "codes_per_position", 1)
    return (1, *config.grid_size, *((depth,) if depth > 1 else ()))


def model_settings(config: PreTrainedConfig) -> list[tuple[str, Any]]:
    """The fields of the config that this model reads, by name."""
    common = {field.name for field in fields(PreTrainedConfig)} | set(config.ignored_fields)
    names = [field.name for field in fields(config) if field.init and field.name not in common]
    return [(name, getattr(config, name)) for name in names if getattr(config, name) is not None]


def training_facts(run: SavedRun) -> list[tuple[str, str]]:
    """How the numbers came about, as far as the run says it: data set, seed, time, versions."""
    shown_elsewhere = {"metrics", "model_type", "command", "settings", "code_histogram", "example_image_tokens"}
    facts = []
    for name, value in run.record.items():
        if name in shown_elsewhere or value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{words(key)} {item}" for key, item in value.items() if item is not None)
        elif name == "seconds":
            name, value = "training_time", f"{number(value)} seconds"
        facts.append((words(name).capitalize(), str(value)))
    return facts


def words(name: str) -> str:
    return str(name).replace("_", " ")


def example_tokens(run: SavedRun) -> str | None:
    """What the first lines of the card print, if the run noted the tokens of example.png."""
    tokens = run.record.get("example_image_tokens")
    return str(torch.tensor(tokens)) if tokens and (run.folder / "example.png").exists() else None
