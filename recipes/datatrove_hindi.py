"""Make Hindi training text with datatrove: from WET files of a web crawl, or from FineWeb-2.

    pip install 'lingraft[datatrove]'
    python recipes/datatrove_hindi.py --wet FOLDER -o FOLDER

A language filter (GlotLID), the quality filters of FineWeb-2 with its thresholds for Hindi, and
MinHash deduplication run one after the other, in parallel over the files. The output are files
`text/*.jsonl.gz` with the fields text, id and metadata, which has `language`, `language_score` and
`minhash_cluster_size`. At the end, the settings are printed with which lingraft reads them. A run
that was stopped continues where it was.

FineWeb-2 is filtered and deduplicated already. Of it, the language filter alone is repeated, with a
threshold of your own, and its cluster sizes stay: --fineweb2 FOLDER, or
--fineweb2 hf://datasets/HuggingFaceFW/fineweb-2/data/hin_Deva/train.

datatrove downloads GlotLID (1.6 GB) on first use. Without a network, --language-model names a local
fasttext model (GlotLID or lid.176), or `lingua`, which needs `lingraft[language-id]`. For another
language, change the constants; thresholds for over 1,000 languages are in the folder `configs` of
https://github.com/huggingface/fineweb-2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

try:
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import (
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        LanguageFilter,
    )
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader, WarcReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.lid import FastTextLID
except ImportError as error:
    sys.exit(
        f"{error.name} is not installed, and is needed here: pip install 'lingraft[datatrove]'"
    )

# Codes of the language: of GlotLID, and of lid.176 and lingua. datatrove's word tokenizers have the
# script in their codes, too: `hin` alone is Hindi in Latin script in its version 0.10.1.
GLOTLID_CODE, ISO_CODE = "hin_Deva", "hi"
WORDS = GLOTLID_CODE
# The thresholds of FineWeb-2 for Hindi: configs/hin_Deva.yml of its repository.
LANGUAGE_SCORE = 0.692
STOP_WORDS = ["के", "में", "है", "की", "और", "से", "का", "को", "एक", "हैं", "पर"]
REPETITIONS = {
    "dup_line_frac": 0.206,
    "dup_para_frac": 0,
    "dup_line_char_frac": 0,
    "dup_para_char_frac": 0,
    "top_n_grams": ((2, 0.208), (3, 0.198), (4, 0.161)),
    "dup_n_grams": ((5, 0.135), (6, 0.125), (7, 0.116), (8, 0.108), (9, 0.099), (10, 0.09)),
}
WORD_LENGTHS = {"min_avg_word_length": 2, "max_avg_word_length": 21}
NON_ALPHA = 0.837
LINES = {"line_punct_thr": 0.091, "new_line_ratio": 0.316}
# 14 bands of 8 values of runs of 5 words, as FineWeb: 92% of the pairs of similarity 0.8 are found.
MINHASH = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)


class LocalModel(FastTextLID):
    """A fasttext model in a file; datatrove's own classes download theirs."""

    def __init__(self, path: str, languages: list[str]) -> None:
        super().__init__(languages)
        self.path = path

    @property
    def model(self) -> Any:
        """The model, loaded when a process first needs it."""
        if self._model is None:
            from fasttext.FastText import _FastText

            self._model = _FastText(self.path)
        return self._model


class LinguaFilter(BaseFilter):
    """Keep the documents to which lingua gives a confidence in Hindi, as LanguageFilter does.

    Lingua divides its confidence among related languages, so that its threshold is its own.
    """

    name = "lingua"

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    @cached_property
    def detector(self) -> Any:
        """The detector of all languages, made when a process first needs it."""
        from lingua import LanguageDetectorBuilder

        return LanguageDetectorBuilder.from_all_languages().build()

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Return whether to keep a document; its metadata get language and score."""
        [best, *_] = self.detector.compute_language_confidence_values(doc.text[:1000])
        doc.metadata["language"] = best.language.iso_code_639_1.name.lower()
        doc.metadata["language_score"] = best.value
        return doc.metadata["language"] == ISO_CODE and best.value >= self.threshold


def language_filter(model: str | None, threshold: float) -> BaseFilter:
    """Return the filter that keeps Hindi, by a model: GlotLID, a file, or lingua."""
    if model == "lingua":
        return LinguaFilter(threshold)
    if model is None:
        return LanguageFilter([GLOTLID_CODE], language_threshold=threshold, backend="glotlid")
    known = set(LocalModel(model, []).model.get_labels())
    for code, backend in ((GLOTLID_CODE, "glotlid"), (ISO_CODE, "ft176")):
        if f"__label__{code}" in known:
            found = LanguageFilter([code], language_threshold=threshold, backend=backend)
            found.model = LocalModel(model, [code])
            return found
    sys.exit(f"{model}: has neither the language {GLOTLID_CODE} nor {ISO_CODE}; name GlotLID")


def quality_filters() -> list[BaseFilter]:
    """Return the filters of FineWeb-2 with its thresholds for Hindi."""
    return [
        GopherRepetitionFilter(**REPETITIONS, language=WORDS),
        FineWebQualityFilter(
            **LINES, short_line_thr=999, char_duplicates_ratio=0.1, language=WORDS
        ),
        GopherQualityFilter(
            **WORD_LENGTHS,
            max_non_alpha_words_ratio=NON_ALPHA,
            stop_words=STOP_WORDS,
            language=WORDS,
        ),
    ]


def with_cluster_size(
    documents: Iterator[Document], _rank: int = 0, _world_size: int = 1
) -> Iterator[Document]:
    """Add the cluster size where MinHash found no duplicates at all, so that all have one."""
    for document in documents:
        document.metadata.setdefault("minhash_cluster_size", 1)
        yield document


def run(steps: list[Any], logs: Path, *, tasks: int, workers: int) -> None:
    """Run a pipeline, except for the tasks that a former run finished."""
    executor = LocalPipelineExecutor(
        steps, tasks=tasks, workers=min(workers, tasks), logging_dir=str(logs)
    )
    executor.run()


def make_text(arguments: argparse.Namespace) -> None:
    """Run all steps; the folder of the output also has those of the intermediate ones."""
    output, tasks = Path(arguments.output), arguments.tasks
    keep = language_filter(arguments.language_model, arguments.language_score)
    folders = {name: str(output / name) for name in ("filtered", "text")}
    work = {"tasks": tasks, "workers": arguments.workers}
    if arguments.fineweb2:
        reader = ParquetReader(arguments.fineweb2, limit=arguments.limit)
        run([reader, keep, JsonlWriter(folders["text"])], output / "logs" / "text", **work)
        return
    reader = WarcReader(arguments.wet, glob_pattern="*.wet*", limit=arguments.limit)
    steps = [reader, keep, *quality_filters(), JsonlWriter(folders["filtered"])]
    run(steps, output / "logs" / "filtered", **work)

    signatures, pairs, remove = (str(output / "minhash" / name) for name in ("1", "2", "3"))
    filtered = JsonlReader(folders["filtered"])
    steps = [filtered, MinhashDedupSignature(signatures, config=MINHASH, language=WORDS)]
    run(steps, output / "logs" / "signatures", **work)
    steps = [MinhashDedupBuckets(signatures, pairs, config=MINHASH)]
    work_of_buckets = {**work, "tasks": MINHASH.num_buckets}
    run(steps, output / "logs" / "buckets", **work_of_buckets)
    steps = [MinhashDedupCluster(pairs, remove, config=MINHASH, save_cluster_size=True)]
    run(steps, output / "logs" / "clusters", tasks=1, workers=1)
    first_of_cluster = MinhashDedupFilter(remove, load_cluster_sizes=True)
    steps = [filtered, first_of_cluster, with_cluster_size, JsonlWriter(folders["text"])]
    run(steps, output / "logs" / "text", **work)


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wet", metavar="FOLDER", help="WET files: *.warc.wet.gz, also s3://")
    source.add_argument("--fineweb2", metavar="FOLDER", help="parquet files of FineWeb-2")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True)
    parser.add_argument("--language-model", metavar="FILE", help="fasttext model, or `lingua`")
    parser.add_argument(
        "--language-score",
        type=float,
        default=LANGUAGE_SCORE,
        help="minimum confidence in Hindi (default: %(default)s, of FineWeb-2 with GlotLID)",
    )
    parser.add_argument(
        "--tasks", type=int, default=1, help="parts of the input; one or more files"
    )
    parser.add_argument("--workers", type=int, default=1, help="parts at a time")
    parser.add_argument("--limit", type=int, default=-1, help="documents of each part (for a try)")
    return parser.parse_args()


def main() -> None:
    """Make the text, and print how lingraft reads it."""
    arguments = parse_arguments()
    make_text(arguments)
    text = Path(arguments.output) / "text"
    if not any(text.glob("*.jsonl.gz")):
        sys.exit(f"{text}: no document passed the filters; see the counts in {text.parent}/logs")
    print(
        f"text in {text}; in a recipe of lingraft:\n"
        "target:\n"
        "  language: hi\n"
        "  corpus:\n"
        f"    path: {text}/*.jsonl.gz\n"
        "    where: metadata.language_score >= 0.9\n"
        "    weight: metadata.minhash_cluster_size"
    )


if __name__ == "__main__":
    main()
