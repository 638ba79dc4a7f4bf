# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What weights that were saved by an older version need when `from_pretrained` loads them."""

from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter


class WithOneDimension(ConversionOps):
    """A number without dimension becomes a vector of one; a vector stays as it is."""

    def convert(self, input_dict: dict, source_patterns: list[str], target_patterns: list[str], **kwargs) -> dict:
        (values,) = input_dict.values()
        (value,) = values if isinstance(values, list) else [values]
        return {target_patterns[0]: value.reshape(-1)}

    @property
    def reverse_op(self) -> ConversionOps:
        return self  # saved with its dimension


def gains_a_dimension(model_class: str, tensor: str) -> None:
    """Lets models of this class load `tensor` from files that hold it without dimension."""
    register_checkpoint_conversion_mapping(
        model_class, [WeightConverter(tensor, tensor, [WithOneDimension()])], overwrite=True
    )
