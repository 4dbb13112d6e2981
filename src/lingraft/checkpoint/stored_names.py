"""The names of a checkpoint's files against the names of the model that transformers makes of them.

Published checkpoints keep the names they were published with: `language_model.model.layers...` where the model's own
module is `model.language_model.layers...`, `backbone.embeddings` where it is `model.embed_tokens`. transformers
translates while it loads, by a table for each architecture; the same table is asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def stored_names(model: Any, stored: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each tensor of a model, the names of the files it is loaded from; unknown ones are not in it.

    A tensor has several where transformers joins them (experts of one layer) or where a tied one was stored twice.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    transforms = get_model_conversion_mapping(model)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    own: Mapping[str, Any] = model.state_dict()
    found: dict[str, list[str]] = {}
    for name in stored:
        translated, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, own)
        if translated not in own and name in own:
            translated = name
        if translated in own:
            found.setdefault(translated, []).append(name)
    return {name: tuple(names) for name, names in found.items()}
