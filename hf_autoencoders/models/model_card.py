# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The card that `model.push_to_hub` writes where there is none: what the model is, and how to load it.

Measured numbers stand on the card of a published run; of a bare model nothing was measured.
"""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData


BLANK = "This model card has been automatically generated."  # in transformers' own, whose fields are all empty
# transformers 5 names each file in a line of its own while no revision is asked for, some 20 on the first load.
PIN_THE_CODE = (
    "On the first load transformers prints a notice for each file of code. "
    '`revision="..."`, a commit of this repository that you have read, pins the code, and no notice is printed.'
)
SAID_ELSEWHERE = ("model_type", "transformers_version", "architectures", "dtype")


class WritesItsCard:
    """Mixin before PreTrainedModel: puts `model_card` in the place of transformers' blank card."""

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        path = Path(working_dir) / "README.md"
        if path.is_file() and BLANK in path.read_text(encoding="utf-8"):
            path.write_text(model_card(self, repo_id), encoding="utf-8")
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)


def model_card(model, repo_id: str) -> str:
    """README.md of a model that nothing was measured of."""
    changed = {
        name: value
        for name, value in model.config.to_diff_dict().items()
        if isinstance(value, (bool, int, float, str, list, tuple)) and name not in SAID_ELSEWHERE
    }
    rows = "\n".join(f"| `{name}` | `{value}` |" for name, value in sorted(changed.items()) if "`" not in str(value))
    tags = ["hf_autoencoders", model.config.model_type]
    data = ModelCardData(library_name="transformers", pipeline_tag="image-feature-extraction", tags=tags)
    text = f"""---
{data.to_yaml()}
---

# {repo_id.split("/")[-1]}

A `{type(model).__name__}` of hf_autoencoders with {model.num_parameters() / 1e6:.2f} M parameters. Nothing of it was
measured.

```python
from transformers import AutoModel

model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True)  # False beside hf_autoencoders
```

{PIN_THE_CODE}

Settings that differ from their defaults:

| field | value |
|---|---|
{rows}
"""
    return str(ModelCard(text))
