"""Adapt a pretrained language model to a language.

    import lingraft

    run = lingraft.adapt(model="path/to/model", language="hi", text="hindi.jsonl.gz")
    print(run.report, run.model_path)

`run.model_path` loads with plain `AutoModelForCausalLM.from_pretrained` and
`AutoTokenizer.from_pretrained`.

Importing the package imports nothing else: every name of `__all__` is imported when it is first
used. `import lingraft` therefore takes milliseconds, and `lingraft --help` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingraft import errors
    from lingraft.certificate import Certificate
    from lingraft.checkpoint.row_request import InitRows

    # What type checkers and editors see; `_MODULES` below must name the same modules.
    from lingraft.errors import (
        CertificateError,
        CorpusError,
        HubError,
        Interrupted,
        LingraftError,
        MissingExtraError,
        ModelError,
        RecipeError,
        StoreError,
        TokenizerError,
        TrainingError,
    )
    from lingraft.library.adapt_model import adapt
    from lingraft.library.diagnose_tokenizers import TokenizerDiagnosis, diagnose
    from lingraft.library.embedding_rows import init_embeddings, resize
    from lingraft.library.evaluate_models import EvaluationReport, evaluate
    from lingraft.library.extension_results import LearnedTokens, TokenizerExtension
    from lingraft.library.hand_over import handover
    from lingraft.library.learn_and_extend import extend_tokenizer, learn_tokens
    from lingraft.library.pack_texts import PackedText, pack
    from lingraft.library.receive_trained import receive
    from lingraft.library.row_origins import RowOrigins
    from lingraft.library.run_study import study
    from lingraft.measurement import Measurement
    from lingraft.measurement_table import MeasurementTable
    from lingraft.pipeline.finished_run import Run, load_run
    from lingraft.splice import Splice
    from lingraft.studies.study_command import StudyError
    from lingraft.studies.study_folder import StudyFolder
    from lingraft.trainers.callback import HandoverCallback
    from lingraft.trainers.manifest import Handover

    __version__: str

__all__ = [
    "Certificate",
    "CertificateError",
    "CorpusError",
    "EvaluationReport",
    "Handover",
    "HandoverCallback",
    "HubError",
    "InitRows",
    "Interrupted",
    "LearnedTokens",
    "LingraftError",
    "Measurement",
    "MeasurementTable",
    "MissingExtraError",
    "ModelError",
    "PackedText",
    "RecipeError",
    "RowOrigins",
    "Run",
    "Splice",
    "StoreError",
    "StudyError",
    "StudyFolder",
    "TokenizerDiagnosis",
    "TokenizerError",
    "TokenizerExtension",
    "TrainingError",
    "__version__",
    "adapt",
    "diagnose",
    "errors",
    "evaluate",
    "extend_tokenizer",
    "handover",
    "init_embeddings",
    "learn_tokens",
    "load_run",
    "pack",
    "receive",
    "resize",
    "study",
]

_MODULES = {
    "lingraft.certificate": ("Certificate",),
    "lingraft.checkpoint.row_request": ("InitRows",),
    "lingraft.errors": (
        "CertificateError",
        "CorpusError",
        "HubError",
        "Interrupted",
        "LingraftError",
        "MissingExtraError",
        "ModelError",
        "RecipeError",
        "StoreError",
        "TokenizerError",
        "TrainingError",
    ),
    "lingraft.library.adapt_model": ("adapt",),
    "lingraft.library.diagnose_tokenizers": ("TokenizerDiagnosis", "diagnose"),
    "lingraft.library.embedding_rows": ("init_embeddings", "resize"),
    "lingraft.library.evaluate_models": ("EvaluationReport", "evaluate"),
    "lingraft.library.hand_over": ("handover",),
    "lingraft.library.pack_texts": ("PackedText", "pack"),
    "lingraft.library.receive_trained": ("receive",),
    "lingraft.library.run_study": ("study",),
    "lingraft.measurement": ("Measurement",),
    "lingraft.measurement_table": ("MeasurementTable",),
    "lingraft.pipeline.finished_run": ("Run", "load_run"),
    "lingraft.library.learn_and_extend": ("extend_tokenizer", "learn_tokens"),
    "lingraft.library.extension_results": ("LearnedTokens", "TokenizerExtension"),
    "lingraft.library.row_origins": ("RowOrigins",),
    "lingraft.splice": ("Splice",),
    "lingraft.studies.study_command": ("StudyError",),
    "lingraft.studies.study_folder": ("StudyFolder",),
    "lingraft.trainers.callback": ("HandoverCallback",),
    "lingraft.trainers.manifest": ("Handover",),
}
"""The public names by module."""

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("lingraft")
    elif name == "errors":
        value = importlib.import_module("lingraft.errors")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    # From now on the name is found without this function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
