# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The classes of a prior: which number means which, settled over both splits before anything is trained."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from ..training.arguments import Arguments


class Labelled(Protocol):
    """A split: `labels` (N,) int64 with -1 for none, or None; `names` of the classes, or None."""

    labels: Tensor | None
    names: list[str] | None


def settle_classes(
    train: Labelled, held_out: Labelled, say: Callable[[str], Any] = lambda text: None
) -> tuple[int, Tensor | None]:
    """The number of classes, and the held-out labels numbered as in the training split.

    Classes are named and numbered by the training split. 0 and None where it has no labels at all.

    Raises:
        ValueError: some pictures have no class, the numbers are too large to number classes, or the held-out split has
            a class that the training split has not. One line says which.
    """
    if train.labels is None:
        return 0, None
    check_all_labelled(train.labels, "training")
    largest = int(train.labels.max())
    count = len(train.names) if train.names else largest + 1
    if largest >= count or count > max(len(train.labels), len(train.names or ())):
        raise ValueError(
            f"The training split's largest label is {largest}, which makes no sense as the number of a class "
            f"({len(train.names or ())} names, {len(train.labels):,} pictures): number the classes from 0, or give "
            "--unconditional."
        )
    if held_out.labels is None:
        raise ValueError("The training split has labels and the held-out one none: give --unconditional.")
    check_all_labelled(held_out.labels, "held-out")
    labels = renumbered(held_out, train.names)
    strange = sorted(set(labels.unique().tolist()) - set(range(count)))
    if strange:
        raise ValueError(
            f"The held-out split has class {strange[0]}, the training split only 0..{count - 1}: give another "
            "--eval_split, or --unconditional."
        )
    unseen = sorted(set(labels.unique().tolist()) - set(train.labels.unique().tolist()))
    if unseen:
        shown = ", ".join(str(train.names[label] if train.names else label) for label in unseen[:5])
        say(f"{len(unseen)} held-out classes have no picture to train on, such as {shown}: their metrics mean little")
    return count, labels


def check_same_classes(known: int, found: int, arguments: Arguments) -> None:
    """Raises ValueError unless the data have as many classes as the parent of the run: they are part of its net."""
    if found != known:
        raise ValueError(
            f"--init_from {arguments.run.init_from} knows {known} classes, the data have {found}: give data with "
            f"{known} classes" + (" (--label_column names their column)." if known else ", or --unconditional.")
        )


def check_class_dropout(arguments: Arguments, num_classes: int) -> None:
    """Raises ValueError if a share of classes is to be dropped, as asked for by a flag or a recipe, of data without."""
    share = arguments.model["class_dropout"]
    if not num_classes and share and "class_dropout" in arguments.given:
        raise ValueError(
            f"--class_dropout {share}: the data set has no classes to drop; leave it out "
            "(to remove it from a recipe: --class_dropout null)."
        )


def check_all_labelled(labels: Tensor, split: str) -> None:
    missing = int((labels < 0).sum())
    if missing:
        raise ValueError(
            f"{missing:,} of {len(labels):,} pictures of the {split} split have no class (-1 or empty): leave them "
            "out, or give --unconditional."
        )


def renumbered(held_out: Labelled, names: Sequence[str] | None) -> Tensor:
    """Labels of the held-out split in the numbers that these `names` have."""
    if not names or not held_out.names or list(held_out.names) == list(names):
        return held_out.labels
    numbers = {name: number for number, name in enumerate(names)}
    labels = held_out.labels.clone()
    for number in held_out.labels.unique().tolist():
        name = held_out.names[number] if number < len(held_out.names) else number
        if name not in numbers:
            known = ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
            raise ValueError(
                f"The held-out split has class {name!r}, which the training split ({known}) has not: give another "
                "--eval_split, or --unconditional."
            )
        labels[held_out.labels == number] = numbers[name]
    return labels
