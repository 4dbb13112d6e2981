"""The SentencePiece model that spBLEU cuts text with: sacrebleu's `flores200`, fetched once, never replaced."""

from __future__ import annotations

import os
from pathlib import Path

from lingraft.errors import HubError

NAME = "flores200"


def flores200_model() -> Path:
    """Return the path of the model; raises `HubError` where it is neither there nor to be had."""
    from sacrebleu.tokenizers import tokenizer_spm
    from sacrebleu.utils import download_file

    address = tokenizer_spm.SPM_MODELS[NAME]["url"]
    path = Path(tokenizer_spm.SACREBLEU_DIR) / "models" / Path(address).name
    if path.is_file():
        return path
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}
    reason = "HF_HUB_OFFLINE is set"
    if not offline:
        try:
            download_file(address, str(path))
        except (OSError, SystemExit) as error:  # sacrebleu ends the process where a certificate fails
            reason = " ".join(str(error).split()) or type(error).__name__
            path.unlink(missing_ok=True)
        else:
            return path
    msg = (f"spBLEU needs sacrebleu's tokenizer {NAME}: {path} is not there and {address} cannot be fetched "
           f"({reason}); put the file there (SACREBLEU names another folder than {path.parents[1]}), or set "
           f"evaluation.tasks.translation_metrics: [chrF++]")
    raise HubError(msg)
