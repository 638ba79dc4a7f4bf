# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""README.md of a prior, of a prior and its image model in one, and of a data set of tokens: measured values only."""

import json
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from yaml import safe_dump

from ..training.text import fenced, plain_text, python_string, table_rows
from .sequences import ImageTokenSequencer
from .token_records import name_of


# What train_prior.py measures: title and unit. A metric of another name is shown under its own name.
PRIOR_METRICS = {
    "images": ("held-out pictures", ""),
    "nats_per_code": ("cost of a code", "nats"),
    "nats_per_code_unconditional": ("cost of a code without the class", "nats"),
    "prior_nats": ("cost of all codes of a picture", "nats per image"),
    "reconstruction_nats": ("cost of the pixels given the codes", "nats per image"),
    "nats": ("prior and decoder together", "nats per image"),
    "bits_per_dim_continuous": ("prior and decoder together, of the density", "bits per dimension"),
    "bits_per_dim_discrete": ("prior and decoder together, of binary pixels", "bits per dimension"),
    "code_perplexity": ("perplexity of the codes", "codes"),
}
BOUND = "of a masked model: bounds from above, each estimated by one draw a picture, keyed by the picture's number"
SHOWN_ELSEWHERE = {"metrics", "settings", "command", "versions", "image_tokenizer", "architecture", "parameters"}


def prior_card(record: dict[str, Any], sequencer: ImageTokenSequencer, repo_id: str) -> str:
    """README.md of a prior alone. `record`: metrics.json."""
    image_model = sequencer.image_tokenizer or "this/image-model"
    return page(
        record, sequencer, f"A prior over the image tokens of {image_model}",
        f"""from transformers import AutoImageProcessor, AutoModel

from hf_autoencoders.priors.autoregressive import generate_images, load_prior

prior = load_prior({python_string(repo_id)})
image_model = AutoModel.from_pretrained({python_string(image_model)})
pictures = generate_images(prior, image_model, {asked(sequencer)})  # in [-1, 1]
AutoImageProcessor.from_pretrained({python_string(image_model)}).postprocess(pictures)  # PIL images""",
    )  # fmt: skip


def image_token_lm_card(record: dict[str, Any], sequencer: ImageTokenSequencer, repo_id: str) -> str:
    """README.md of a prior and its image model in one. `record`: metrics.json."""
    return page(
        record, sequencer, f"New pictures from the image tokens of {sequencer.image_tokenizer or 'an image model'}",
        f"""from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained({python_string(repo_id)}, trust_remote_code=True)  # False beside hf_autoencoders
pictures = model.generate_images({asked(sequencer)})  # in [-1, 1]
processor = AutoImageProcessor.from_pretrained({python_string(repo_id)}, trust_remote_code=True)
processor.postprocess(pictures)  # PIL images""",
    )  # fmt: skip


def asked(sequencer: ImageTokenSequencer) -> str:
    classes = sequencer.num_classes
    if not classes:
        return "num_images=2"
    guidance = ", guidance_scale=1.5" if sequencer.class_dropout else ""
    return f"labels=[{min(3, classes - 1)}, {min(7, classes - 1)}]{guidance}"


def classes_in_words(sequencer: ImageTokenSequencer) -> str:
    """
    >>> classes_in_words(ImageTokenSequencer(8, (2, 2), num_classes=2, class_names=["cat", "eel"]))
    '2 classes (cat, eel)'
    """
    names = sequencer.class_names or []
    shown = ", ".join(plain_text(name) for name in names[:20]) + (", ..." if len(names) > 20 else "")
    return f"{sequencer.num_classes} classes" + (f" ({shown})" if names else "")


def page(record: dict[str, Any], sequencer: ImageTokenSequencer, title: str, snippet: str) -> str:
    grid, dataset = "x".join(map(str, sequencer.grid_size)), record["dataset"]["name"]
    settings = {name: without_folder(value) for name, value in record["settings"].items()}
    bound = f" ({BOUND})" if record["architecture"] == "masked" else ""
    return f"""---
{head(record, sequencer, title)}
---
# {plain_text(title)}

A {record["architecture"]} model ({record["parameters"] / 1e6:.2f} M parameters) of {sequencer.codebook_size} codes on \
a {grid} grid, {classes_in_words(sequencer)}, trained {record["steps"]} steps on {plain_text(dataset)}.

![samples](samples.png)

{fenced(snippet, "python")}

Held-out figures{bound}, measured by the run:

| figure | value | unit |
|---|---|---|
{table_rows(rows_of_metrics(record["metrics"]))}

How they came about:

| | |
|---|---|
{table_rows(facts_of_run(record))}

{fenced(shlex.join(map(without_folder, shlex.split(record["command"]))), "bash")}

The knobs that were set:

{fenced(safe_dump(settings, sort_keys=False), "yaml")}
"""


def head(record: dict[str, Any], sequencer: ImageTokenSequencer, title: str) -> str:
    """The YAML header; only what is on the Hub is named as a data set or a base model."""
    dataset, image_model = record["dataset"]["name"], sequencer.image_tokenizer
    experiment = {
        "task_type": "unconditional-image-generation",
        "dataset_type": dataset,
        "dataset_name": dataset,
    }
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="unconditional-image-generation",
        tags=["hf_autoencoders", "image-tokens", "image-generation"],
        datasets=[dataset] if "/" in dataset else None,
        base_model=image_model if image_model and "/" in image_model else None,
        model_name=title,
        eval_results=[
            EvalResult(
                **experiment, metric_type=name, metric_name=PRIOR_METRICS.get(name, (name,))[0], metric_value=value
            )
            for name, value in record["metrics"].items()
        ],
    )
    return data.to_yaml()


def title_of(metric: str) -> str:
    return PRIOR_METRICS.get(metric, (metric, ""))[0]


def rows_of_metrics(metrics: dict[str, float]) -> list[tuple[str, str, str]]:
    """Title, value and unit of each."""
    return [(title_of(name), f"{value:.5g}", PRIOR_METRICS.get(name, ("", ""))[1]) for name, value in metrics.items()]


def facts_of_run(record: dict[str, Any]) -> list[tuple[str, str]]:
    shown = {name: value for name, value in record.items() if name not in SHOWN_ELSEWHERE and value is not None}
    texts = [(name, json.dumps(value) if isinstance(value, dict) else str(value)) for name, value in shown.items()]
    packages = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return [*texts, ("versions", packages)]


def without_folder(value: Any) -> Any:
    """The last name of an absolute path; other values as they are. Folders of a user's machine are private."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def token_dataset_card(record: dict[str, Any]) -> str:
    """README.md of a data set of tokens. `record`: image_tokenizer.json."""
    head = {
        "tags": ["image-tokens", "hf_autoencoders"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": s, "path": f"{s}-*.parquet"} for s in record["splits"]]}
        ],
        "image_tokenizer": {key: value for key, value in record.items() if key not in ("splits", "image_processor")},
    }
    source, depth = record["source"], "x".join(map(str, record["grid_size"]))
    size = record["codebook_size"]
    rows = table_rows(
        [
            (split, f"{one['rows']:,}", f"{one['codes_used']} of {size}", f"{one['perplexity']:.1f}")
            for split, one in record["splits"].items()
        ]
    )
    return "\n".join(
        [
            "---",
            safe_dump(head, sort_keys=False).rstrip(),
            "---",
            f"# Image tokens of {plain_text(source['dataset_name'])}",
            "",
            f"Made by {plain_text(name_of(record))}. Each row holds `image_tokens`, {depth} codes flat in raster "
            "order, and the other columns of the source.",
            "",
            "| split | images | codes used | perplexity |",
            "|---|---|---|---|",
            rows,
            "",
            "```python",
            "from hf_autoencoders.priors.token_datasets import load_token_dataset",
            "",
            'tokens = load_token_dataset("this/repository", expect=image_model)  # refuses codes of another model',
            "```",
            "",
            "The licence is that of the source data set.",
            "",
        ]
    )
