# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""image_tokenizer.json of a data set of tokens: which model made them, from what, and what its files must hold."""

import json
from pathlib import Path
from typing import Any

from .sequences import commit_of, digest_of


RECORD = "image_tokenizer.json"
COLUMN = "image_tokens"


class TokenDatasetError(ValueError):
    """The tokens cannot be written or read, and one line says why."""


def describe_image_tokenizer(model, image_processor=None, revision: str | None = None) -> dict[str, Any]:
    """What must be equal for tokens to mean the same: name, commit, weights, codebook, grid, order, processor."""
    config = model.config
    return {
        "image_tokenizer": public_name(config.name_or_path),
        "revision": commit_of(config.name_or_path, revision),
        "weights": digest_of(model, ("encoder.", "quant_conv.", "quantize.")),  # what decides a picture's tokens
        "model_type": config.model_type,
        "codebook_size": model.codebook_size,
        "grid_size": [*model.grid_size, *([config.codes_per_position] if config.codes_per_position > 1 else [])],
        "order": "raster",
        "image_size": [config.height, config.width],
        "dtype": str(model.dtype).removeprefix("torch."),
        "image_processor": json.loads(image_processor.to_json_string()) if image_processor is not None else None,
    }


def public_name(name: str | None) -> str | None:
    """A Hub id as it is; of a folder only its own name, since paths of somebody's machine are private."""
    return Path(name).resolve().name if name and Path(name).exists() else name or None


def name_of(record: dict[str, Any]) -> str:
    """
    >>> record = {"image_tokenizer": "org/vq", "revision": None, "weights": "409250a3"}
    >>> name_of({**record, "codebook_size": 128, "grid_size": [7, 7]})
    'org/vq (128 codes, grid 7x7, weights 409250a3)'
    """
    name = record["image_tokenizer"] or "a model without a name"
    if record["revision"]:
        name += f" at {record['revision'][:12]}"
    grid = "x".join(map(str, record["grid_size"]))
    return f"{name} ({record['codebook_size']} codes, grid {grid}, weights {record['weights']})"


def check_same_image_tokenizer(record: dict[str, Any], model, where: str) -> None:
    """Raises `TokenDatasetError`, naming both, unless `model` is the one that made the tokens."""
    expected = describe_image_tokenizer(model)
    if any(record[key] != expected[key] for key in ("weights", "codebook_size", "grid_size", "order")):
        dtype = "" if record["dtype"] == expected["dtype"] else f" (in {record['dtype']} and {expected['dtype']})"
        raise TokenDatasetError(
            f"The tokens in {where} are of {name_of(record)}, the model is {name_of(expected)}{dtype}: "
            "its codes mean other pictures. Encode the images again with this model."
        )


def differences(present: dict[str, Any], wanted: dict[str, Any], above: str = "") -> list[str]:
    """Names of the entries of `wanted` that `present` lacks or has otherwise, those of an inner dict with a dot.

    >>> differences({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}})
    ['b.d']
    """
    names = []
    for name, value in wanted.items():
        found = present.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            names += differences(found, value, f"{above}{name}.")
        elif found != value:
            names.append(f"{above}{name}")
    return names


def entry_of(record: dict[str, Any], name: str) -> Any:
    """The entry that `differences` names."""
    for part in name.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


# -- reading -----------------------------------------------------------------------------------------------------------


def read_token_record(name: str | Path, revision: str | None = None) -> dict[str, Any]:
    """image_tokenizer.json of a folder or of a data set on the Hub.

    Raises:
        TokenDatasetError: there is none, or it is damaged.
    """
    path = local_file(name, RECORD, revision)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenDatasetError(f"{path} is damaged, it is no JSON: {error}.") from error
    needed = ("image_tokenizer", "revision", "weights", "codebook_size", "grid_size", "order", "dtype")
    missing = [key for key in needed if not isinstance(record, dict) or key not in record]
    if missing:
        raise TokenDatasetError(f"{path} is damaged: it does not say {missing[0]!r}.")
    texts = ("image_tokenizer", "revision", "weights", "order", "dtype", "label_column")
    wrong = [key for key in texts if not isinstance(record.get(key), str | None)]
    if wrong:
        raise TokenDatasetError(f"{path} is damaged: {wrong[0]!r} is {record[wrong[0]]!r}, no text.")
    grid, size = record["grid_size"], record["codebook_size"]
    numbers = [size, *grid] if isinstance(grid, list) and len(grid) in (2, 3) else [None]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise TokenDatasetError(f"{path} is damaged: {size!r} codes on a grid {grid!r}.")
    splits = record.get("splits", {})
    if not isinstance(splits, dict) or not all(is_split(split) for split in splits.values()):
        raise TokenDatasetError(f"{path} is damaged: its splits do not name their shards and count their rows.")
    return record


def is_split(entry: Any) -> bool:
    """Whether an entry of `splits` says what reading needs."""
    if not isinstance(entry, dict) or type(entry.get("rows")) is not int or not isinstance(entry.get("shards"), list):
        return False
    if not isinstance(entry.get("sha256", {}), dict):
        return False
    names = [*entry["shards"], *entry.get("sha256", {})]
    return all(isinstance(name, str) and Path(name).name == name for name in names)  # none of another folder


def local_file(name: str | Path, file: str, revision: str | None = None) -> Path:
    """Where a file of the data set lies on this machine; a Hub data set's is downloaded first."""
    path = Path(name) / file
    if not Path(name).is_dir() and str(name).count("/") <= 1 and not str(name).startswith((".", "/", "~")):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

        try:
            path = Path(hf_hub_download(str(name), file, repo_type="dataset", revision=revision))
        except (EntryNotFoundError, HFValidationError, RepositoryNotFoundError) as error:
            raise TokenDatasetError(
                f"{name} is no data set of image tokens: no folder here, and nothing on the Hub with {file} "
                f"({type(error).__name__})."
            ) from error
    if not path.is_file():
        raise TokenDatasetError(f"{name} is no data set of image tokens: it has no {file}.")
    return path
