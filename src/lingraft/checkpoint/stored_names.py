"""Match the tensor names in the files with the tensor names of the model that transformers builds.

A checkpoint keeps the names of its publication, also when later releases of transformers rename
the modules: `language_model.model.layers...` in the files can be `model.language_model.layers...`
in the model, and `backbone.embeddings` can be `model.embed_tokens`. transformers translates the
names while it loads, with a table for each architecture. This module uses the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def splits_tensors(model: Any) -> bool:
    """Return whether transformers makes several weights of one stored tensor of this model.

    `stored_names` then names only the first of them.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    for change in get_model_conversion_mapping(model):
        if isinstance(change, WeightConverter) and len(change.target_patterns) > 1:
            return True
    return False


def stored_names(model: Any, stored: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each tensor of a model, the names in the files that it is loaded from.

    Names that the model does not load are left out. A tensor has several names where transformers
    joins tensors (the experts of one layer) or where a tied matrix is stored twice.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    transforms = get_model_conversion_mapping(model)
    # A renaming changes a name only; a converter also joins or splits tensors.
    renamings = [change for change in transforms if isinstance(change, WeightRenaming)]
    converters = [change for change in transforms if isinstance(change, WeightConverter)]
    parameters: Mapping[str, Any] = model.state_dict()
    prefix = model.base_model_prefix
    matches: dict[str, list[str]] = {}
    for name in stored:
        translated, _ = rename_source_key(name, renamings, converters, prefix, parameters)
        # A name can be the model's own already, and the table of an older layout then translates it
        # to a name that the model does not have.
        if translated not in parameters and name in parameters:
            translated = name
        if translated in parameters:
            matches.setdefault(translated, []).append(name)
    return {name: tuple(names) for name, names in matches.items()}
