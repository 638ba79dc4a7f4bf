# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from a saved model, for every task: what may change, what is refused, and what the record says.

parent = load_parent(arguments, load)                       # of --init_from; None without it
knobs = settle_knobs(arguments, own, may_change)            # the parent's, or the user's where they may change
record_of_start(parent), describe_start(arguments, parent)  # metrics.json and the first lines of the screen
parent_on_card(record), base_model_of(record)               # the card
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..perception.weights import weights_fingerprint
from .arguments import Arguments
from .knob_checks import flags_of
from .saved_models import check_finite
from .text import is_hub_id, plain_text


LoadParent = Callable[[str, str | None], nn.Module]


@dataclass
class Parent:
    """The saved model that --init_from names.

    Attributes:
        name: a Hub id, or the last part of a path: records are published, and the whole path is private.
        revision: the one on the Hub that the user asked for.
        fingerprint: `weights_fingerprint` of it.
        model: with all of its weights; None after `hand_over`.
        notes: lines on what the run changes in it.
        facts: the same for metrics.json.
    """

    name: str
    revision: str | None
    fingerprint: str
    model: nn.Module | None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def hand_over(self) -> nn.Module:
        """Returns the model, once: the run's own model gets its weights, and no second copy stays in memory."""
        model, self.model = self.model, None
        assert model is not None, "the parent was handed over already"
        return model


def load_parent(arguments: Arguments, load: LoadParent) -> Parent | None:
    """What --init_from names; None without it.

    Args:
        load: gives the model under a folder, a file or a Hub id, at a revision.

    Raises:
        ValueError: nothing is there that `load` can read, its weights hold NaN, or a folder here is given a revision.
    """
    name, revision = arguments.run.init_from, arguments.run.init_revision
    if name is None:
        return None
    if revision is not None and Path(name).exists():
        raise ValueError(
            f"--init_revision {revision}: has no effect, since --init_from {name} is on this machine: revisions are "
            "those of a repository on the Hub."
        )
    model = load(name, revision)
    check_finite(model, name)
    public = Path(name).resolve().name if Path(name).exists() else name
    return Parent(public, revision, weights_fingerprint(model), model)


def settle_knobs(arguments: Arguments, own: Mapping[str, Any], may_change: Collection[str]) -> dict[str, Any]:
    """The knobs in `own` for this run: the user's where they may change, else the parent's.

    Args:
        own: name -> value of the knobs of the model with which the parent was made.
        may_change: names of knobs that change neither the net nor the meaning of its weights.

    Raises:
        ValueError: the user gave another value for one of the others.
    """
    asked = {name: arguments.model[name] for name in own if name in arguments.model and name in arguments.given}
    refused = sorted(name for name in asked if name not in may_change and not same_value(asked[name], own[name]))
    if refused:
        name = refused[0]
        raise ValueError(
            f"{flags_of(refused)}: would change the net of --init_from {arguments.run.init_from} (its {name} is "
            f"{own[name]!r}): leave it out (to remove it from a recipe: --name null)."
        )
    return {**own, **asked}


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of a knob are the same: lists and tuples alike; one number for a square."""
    return _comparable(one) == _comparable(other)


def _comparable(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    values = list(value)
    return values[0] if len(values) == 2 and values[0] == values[1] else values


def describe_start(arguments: Arguments, parent: Parent | None) -> str:
    """Lines on where the weights come from and which parts are trained; "" for a run that starts anew."""
    run, lines = arguments.run, []
    if parent is not None:
        lines += [f"starts from {run.init_from}", *(f"  {note}" for note in parent.notes)]
    if run.train_only:
        lines.append(f"  trains {' and '.join(run.train_only)}; the rest stays as it is")
    return "".join(f"{line}\n" for line in lines)


def record_of_start(parent: Parent | None) -> dict[str, Any]:
    """What metrics.json says of the parent; {} for a run that started from random weights."""
    if parent is None:
        return {}
    said = {"name": parent.name, "revision": parent.revision, "fingerprint": parent.fingerprint}
    return {"parent": {**said, **parent.facts}}


def base_model_of(record: Mapping[str, Any]) -> str | None:
    """The parent's Hub id, which a card's header names; None for a folder, a file, or random weights."""
    name = record.get("parent", {}).get("name", "")
    return name if is_hub_id(name) else None


def parent_on_card(record: Mapping[str, Any]) -> str:
    """Sentences of Markdown on the parent; "" for a run that started from random weights."""
    parent = record.get("parent")
    if not parent:
        return ""
    name, revision = plain_text(parent["name"]), parent.get("revision")
    where = f"[{name}](https://huggingface.co/{parent['name']})" if base_model_of(record) else name
    where += f" at revision {plain_text(revision)}" if revision else ""
    unknown = "" if base_model_of(record) else " It is not on the Hub under this name."
    kept = " Only the decoder was trained: every picture keeps its tokens." if parent.get("keeps_tokens") else ""
    return (
        f"Trained on from {where}, not from random weights.{unknown} The SHA-256 fingerprint of those weights is "
        f"`{parent['fingerprint']}`.{kept}"
    )
