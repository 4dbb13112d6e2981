"""lm-eval, datasets and transformers without their own bars, warnings and log lines; what counts is in our results."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

LOUD = ("lm_eval", "lm-eval", "datasets", "transformers", "sacrebleu", "evaluate", "accelerate", "huggingface_hub",
        "httpx")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep other libraries silent while the block runs, and put everything back after it."""
    from tqdm import std

    levels = {name: logging.getLogger(name).level for name in LOUD}
    begin = std.tqdm.__init__
    try:
        for name in LOUD:
            logging.getLogger(name).setLevel(logging.ERROR)
        std.tqdm.__init__ = lambda bar, *values, **settings: begin(bar, *values, **{**settings, "disable": True})
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        std.tqdm.__init__ = begin
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
