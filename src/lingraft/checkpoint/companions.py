"""Files that belong to a model and are no weights: processors of multimodal models, chat templates, licences.

They come along unchanged. Tokenizer files are not among them: an extended tokenizer writes its own, and the source's
vocab.json or merges.txt would be stale.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
                   "audio_preprocessor_config.json", "feature_extractor_config.json", "image_processor_config.json")
TEMPLATES = ("chat_template.json", "additional_chat_templates/*.jinja")
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "COPYING*")
COMPANIONS = (*PROCESSOR_FILES, *TEMPLATES, *LICENCES)


def copy_companions(source: Path, output: Path) -> None:
    """Copy the files that belong to a model into another folder of it, those in subfolders too."""
    copy_matching(source, output, COMPANIONS)


def copy_matching(source: Path, output: Path, patterns: Iterable[str]) -> None:
    """Copy the files that any of the patterns names into the same place below another folder."""
    found = {path for pattern in patterns for path in source.glob(pattern) if path.is_file()}
    for path in sorted(found):
        target = output / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
