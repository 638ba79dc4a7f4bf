# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Metrics of several records side by side, and whether they may be compared at all."""

from collections.abc import Mapping
from typing import Any

from .protocol import protocol_differences


OTHER = "*"  # stands behind numbers that do not compare with the first column's


def comparison_table(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: a row for each metric, a column for each record, and what their protocols differ in.

    Args:
        records: name -> what a metrics.json holds: `metrics`, and `protocol` where one was written.

    >>> print("\\n".join(comparison_table({"a": {"metrics": {"psnr": 24.5}}, "b": {"metrics": {"psnr": 25.0}}})))
    | metric | a | b |
    |---|---:|---:|
    | psnr | 24.5 | 25 |
    """
    names = list(records)
    first = conditions_of(records[names[0]])
    differ = {name: protocol_differences(first, conditions_of(records[name])) for name in names[1:]}
    lines = ["| metric | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for metric in dict.fromkeys(metric for record in records.values() for metric in record["metrics"]):
        cells = [_cell(records[name]["metrics"].get(metric), OTHER if differ.get(name) else "") for name in names]
        if any(cells):
            lines.append(f"| {metric.replace('_', ' ')} | {' | '.join(cell or '-' for cell in cells)} |")
    for name, texts in differ.items():
        if texts:
            lines += ["", f"{OTHER} {name} does not compare with {names[0]}, since their protocols differ in"]
            lines += [f"  {text}" for text in texts]
    return lines


def conditions_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol, or, of a record without one, what else it says of the pictures that it was measured on."""
    if "protocol" in record:
        return dict(record["protocol"])
    data = record.get("dataset", {})
    said = {"data set": data.get("name"), "split": data.get("eval_split"), "pictures": data.get("eval_images")}
    said |= {"shape": "x".join(map(str, data.get("image_shape") or ())), "binarize": data.get("binarize")}
    return {name: value for name, value in said.items() if value}


def _cell(value: Any, mark: str) -> str:
    """ "" for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,.5g}{mark}"
