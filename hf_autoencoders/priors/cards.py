# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""README.md of a prior, of a prior and its image model in one, and of a data set of tokens: measured values only.

The words around the values are Jinja: templates/prior.md, templates/token_dataset.md.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from yaml import safe_dump

from ..models.model_card import PIN_THE_CODE
from ..training.starting_point import base_model_of, parent_on_card
from ..training.text import plain_text, render
from .sequences import ImageTokenSequencer
from .token_records import name_of


PRIOR_TEMPLATE = Path(__file__).parent / "templates" / "prior.md"
TOKEN_DATASET_TEMPLATE = Path(__file__).parent / "templates" / "token_dataset.md"
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
SHOWN_ELSEWHERE = {
    "metrics",
    "parent",
    "settings",
    "command",
    "versions",
    "image_tokenizer",
    "architecture",
    "parameters",
}


def prior_card(record: dict[str, Any], sequencer: ImageTokenSequencer, repo_id: str) -> str:
    """README.md of a prior alone. `record`: metrics.json."""
    image_model = sequencer.image_tokenizer or "this/image-model"
    title = f"A prior over the image tokens of {image_model}"
    return page(record, sequencer, title, repo_id=repo_id, image_model=image_model, with_image_model=False)


def image_token_lm_card(record: dict[str, Any], sequencer: ImageTokenSequencer, repo_id: str) -> str:
    """README.md of a prior and its image model in one. `record`: metrics.json."""
    title = f"New pictures from the image tokens of {sequencer.image_tokenizer or 'an image model'}"
    return page(record, sequencer, title, repo_id=repo_id, with_image_model=True)


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


def page(record: dict[str, Any], sequencer: ImageTokenSequencer, title: str, **how_to_load: Any) -> str:
    """`how_to_load`: what the snippet at the top of templates/prior.md needs."""
    settings = {name: without_folder(value) for name, value in record["settings"].items()}
    return render(
        PRIOR_TEMPLATE,
        card_data=head(record, sequencer, title),
        title=title,
        record=record,
        codebook_size=sequencer.codebook_size,
        grid="x".join(map(str, sequencer.grid_size)),
        classes=classes_in_words(sequencer),
        asked=asked(sequencer),
        pin_the_code=PIN_THE_CODE,
        bound=BOUND,
        metrics=rows_of_metrics(record["metrics"]),
        origin=parent_on_card(record),
        facts=facts_of_run(record),
        command=shlex.join(map(without_folder, shlex.split(record["command"]))),
        settings=safe_dump(settings, sort_keys=False),
        **how_to_load,
    )


def head(record: dict[str, Any], sequencer: ImageTokenSequencer, title: str) -> str:
    """The YAML header; only what is on the Hub is named as a data set or a base model."""
    dataset, image_model = record["dataset"]["name"], sequencer.image_tokenizer
    on_the_hub = image_model if image_model and "/" in image_model else None
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
        base_model=[*filter(None, [base_model_of(record), on_the_hub])] or None,
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
    splits = [
        (split, f"{one['rows']:,}", f"{one['codes_used']} of {record['codebook_size']}", f"{one['perplexity']:.1f}")
        for split, one in record["splits"].items()
    ]
    return render(
        TOKEN_DATASET_TEMPLATE,
        card_data=safe_dump(head, sort_keys=False).rstrip(),
        dataset=record["source"]["dataset_name"],
        image_model=name_of(record),
        grid="x".join(map(str, record["grid_size"])),
        splits=splits,
    )
