"""The table of bytes for the same content: src/lingraft/vocabulary/text_lengths.tsv.

    git clone https://github.com/eric-muller/udhr
    python benchmarks/text_lengths.py udhr > src/lingraft/vocabulary/text_lengths.tsv

A value is the UTF-8 bytes of a text divided by those of its English version. Languages of
FLORES-200 devtest (../shared/assets) have the value of its 1,012 sentences. The others have that of
the Universal Declaration of Human Rights: the preamble and all 30 articles, where a file is of
stage 4 or 5 and has all of these parts. Most languages of both texts are longer in FLORES, compared
with English, so values of the declaration are multiplied by the geometric mean of the ratios. How
far both disagree then is printed to standard error.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import langcodes

FLORES = Path("../shared/assets/parallel/flores200-devtest.jsonl.gz")
NAMESPACE = "{http://efele.net/udhr}"
Parts = dict[str, str]


def read_flores() -> dict[str, float]:
    """Return the relative bytes of each language of FLORES."""
    totals: dict[str, int] = defaultdict(int)
    with gzip.open(FLORES, "rt", encoding="utf-8") as file:
        for line in file:
            sentences = json.loads(line)
            del sentences["id"]
            for language, sentence in sentences.items():
                totals[language] += len(sentence.encode())
    return {language: total / totals["en"] for language, total in totals.items()}


def read_parts(file: Path) -> Parts:
    """Return the paragraphs of the preamble and of each article."""
    root = ET.fromstring(file.read_bytes())
    parts = {}
    for part in (*root.iter(f"{NAMESPACE}preamble"), *root.iter(f"{NAMESPACE}article")):
        paragraphs = [_text(paragraph) for paragraph in part.iter(f"{NAMESPACE}para")]
        parts[part.get("number", "preamble")] = "\n".join(paragraphs)
    return parts


def _text(paragraph: ET.Element) -> str:
    return " ".join("".join(paragraph.itertext()).split())


def read_declaration(checkout: Path) -> dict[str, float]:
    """Return the relative bytes of each language of the declaration, the median of its files."""
    folder = checkout / "data" / "udhr"
    english = read_parts(folder / "udhr_eng.xml")
    size = sum(len(text.encode()) for text in english.values())
    values: dict[str, list[float]] = defaultdict(list)
    for entry in ET.fromstring((folder / "index.xml").read_bytes()).iter("udhr"):
        file = folder / f"udhr_{entry.get('f')}.xml"
        tag = entry.get("bcp47", "und")
        if tag == "und" or entry.get("stage") not in {"4", "5"} or not file.is_file():
            continue
        parts = read_parts(file)
        if all(parts.get(number) for number in english):
            total = sum(len(parts[number].encode()) for number in english)
            values[langcodes.standardize_tag(tag)].append(total / size)
    return {tag: statistics.median(found) for tag, found in values.items()}


def main() -> None:
    """Print the table."""
    flores, declaration = read_flores(), read_declaration(Path(sys.argv[1]))
    both = sorted((flores.keys() & declaration.keys()) - {"en"})
    ratios = {tag: flores[tag] / declaration[tag] for tag in both}
    factor = statistics.geometric_mean(ratios.values())
    for tag, ratio in ratios.items():
        print(f"{tag}: FLORES / declaration x {factor:.3f} = {ratio / factor:.3f}", file=sys.stderr)
    print("language\tbytes\tsource")
    for tag in sorted(flores.keys() | declaration.keys()):
        if tag in flores:
            print(f"{tag}\t{flores[tag]:.3f}\tflores200-devtest")
        else:
            print(f"{tag}\t{declaration[tag] * factor:.3f}\tudhr")


if __name__ == "__main__":
    main()
