"""What a tokenizer does to a language, what extending it would give, and whether that is worth it. No torch, seconds.

`diagnose` takes opened tokenizers, samples of text and parallel text, and returns a `Diagnosis`: a value that the
terminal, JSON and HTML are written from. Every prediction is made on text that the tokens were not learned from, and
carries an interval.
"""

from lingraft.diagnosis.advice import Advice, advise
from lingraft.diagnosis.command import diagnose_command
from lingraft.diagnosis.diagnosis import Diagnosis, Finding, Rank, TokenizerFindings, diagnose
from lingraft.diagnosis.document import as_json
from lingraft.diagnosis.measures import Measures, measure, premium
from lingraft.diagnosis.page import as_page
from lingraft.diagnosis.sample import Parallel, Sample, read_parallel, read_sample
from lingraft.diagnosis.terminal import as_tables

__all__ = ["Advice", "Diagnosis", "Finding", "Measures", "Parallel", "Rank", "Sample",
           "TokenizerFindings", "advise", "as_json", "as_page", "as_tables", "diagnose", "diagnose_command", "measure",
           "premium", "read_parallel", "read_sample"]
