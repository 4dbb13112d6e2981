r"""The pre-tokenizers that llama.cpp has built in by name, and how each splits text.

A GGUF file stores no regular expression, only a name. The table holds the names that matter here:
those of bases whose words are split at combining marks, and every name under which llama.cpp keeps
marks inside words. Where `expressions` is set, a tokenizer.json with these `Split` steps splits
text exactly as llama.cpp does. The other fields describe what llama.cpp really does, which differs
from the model's own tokenizer for several names; a test compares each with llama.cpp itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lingraft.tokenizer.byte_level_bpe import pre_tokenizers
from lingraft.tokenizer.convert import GPT2_REGEX, LLAMA3_REGEX, QWEN_REGEX
from lingraft.tokenizer.json_format import Data, split_step

TESTED_WITH = "v0.5.0"
"""The version of llama.cpp with which the table was compared."""

ONE, THREE, RUNS = "one at a time", "in threes", "whole numbers"
FROM_THE_RIGHT = "in threes from the right"
"""The ways of splitting a run of digits."""

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_SPACES}"
)
_THREE_DIGITS = r"\p{N}{1,3}"
_CHINESE = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
)
_WORD_AND_CONTRACTION = rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+(?:{_CONTRACTION})?"
_GPT4O_END = rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_SPACES}"
_GRANITE_CASES = (
    rf"[^\r\n\p{{L}}\p{{N}}]?(?:(?![a-z])[\p{{L}}\p{{M}}])*(?:(?![A-Z])[\p{{L}}\p{{M}}])+"
    rf"(?:{_CONTRACTION})?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?(?:(?![a-z])[\p{{L}}\p{{M}}])+(?:(?![A-Z])[\p{{L}}\p{{M}}])*"
    rf"(?:{_CONTRACTION})?"
)
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_YOUTU_FIRST = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c"
    "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
)


@dataclass(frozen=True)
class NamedPretokenizer:
    """A pre-tokenizer of llama.cpp.

    Attributes:
        name: the value of `tokenizer.ggml.pre` in a GGUF file.
        since: the pull request that added it to llama.cpp, and the month.
        digits: how a run of digits is split.
        marks: whether combining marks continue words.
        expressions: `Split` steps that split text exactly as llama.cpp does; empty if there are
            none, or if no base uses them.
        whole_words: whether a word is looked up in the vocabulary before merges apply.
        aliases: names for the same rules.
        remark: what else distinguishes it.
        transformers: the classes of transformers that build it, with their first version.
    """

    name: str
    since: str
    digits: str
    marks: bool
    expressions: tuple[str, ...] = ()
    whole_words: bool = False
    aliases: tuple[str, ...] = ()
    remark: str = ""
    transformers: str = ""


NAMED_PRETOKENIZERS = (
    NamedPretokenizer(
        "qwen35",
        "#19468, February 2026",
        ONE,
        marks=True,
        expressions=(_QWEN35,),
        remark="otherwise equal to qwen2",
        transformers="Qwen3_5Tokenizer (5.2)",
    ),
    NamedPretokenizer(
        "granite-embed-multi-97m",
        "#22716, May 2026",
        THREE,
        marks=True,
        expressions=(_GRANITE_CASES + rf"|{_THREE_DIGITS}" + _GPT4O_END,),
        whole_words=True,
        remark="words are split before a capital letter; contractions stay with their word",
    ),
    NamedPretokenizer(
        "tiny_aya",
        "#19611, February 2026",
        FROM_THE_RIGHT,
        marks=True,
        aliases=("cohere2moe",),
        remark="contractions stay with their word",
    ),
    NamedPretokenizer(
        "youtu",
        "#18479, January 2026",
        ONE,
        marks=True,
        expressions=(_YOUTU_FIRST, _WORD_AND_CONTRACTION + r"|\p{N}" + _GPT4O_END),
        whole_words=True,
        remark="quotation marks and Chinese are separate; contractions stay with their word",
    ),
    NamedPretokenizer(
        "deepseek-v3",
        "#11049, January 2025",
        THREE,
        marks=True,
        expressions=(_THREE_DIGITS, _CHINESE, _DEEPSEEK_WORDS + r"[\r\n]*" + _SPACES),
        aliases=("hunyuan-dense", "hy_v4", "joyai-llm"),
        remark="a typographic apostrophe is separate from the letters after it",
    ),
    NamedPretokenizer(
        "spark2_5",
        "#27868, August 2026",
        ONE,
        marks=True,
        expressions=(
            _THREE_DIGITS,
            _CHINESE,
            _DEEPSEEK_WORDS + r"|[\r\n]|\s+(?!\S)|\s+",
            r"\p{N}",
        ),
        remark="as deepseek-v3, and every line end is separate",
    ),
    NamedPretokenizer(
        "exaone-moe",
        "#18543, January 2026",
        ONE,
        marks=True,
        expressions=(
            _CONTRACTION
            + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
            + r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
        remark="words that a space separates are one part",
    ),
    NamedPretokenizer(
        "bloom",
        "#8850, August 2024",
        RUNS,
        marks=True,
        expressions=(_BLOOM,),
        aliases=("poro-chat", "gpt3-finnish"),
        remark="digits and most punctuation are parts of words",
    ),
    NamedPretokenizer(
        "viking",
        "#8135, June 2024",
        ONE,
        marks=True,
        expressions=(_BLOOM, r"\p{N}"),
        remark="most punctuation is part of words",
    ),
    NamedPretokenizer(
        "superbpe",
        "#12532, March 2025",
        FROM_THE_RIGHT,
        marks=True,
        remark="text between numbers is one part",
    ),
    NamedPretokenizer(
        "deepseek-llm",
        "#6920, April 2024",
        RUNS,
        marks=True,
        remark="words of scripts without capital letters are separate from the space before them",
    ),
    NamedPretokenizer(
        "afmoe",
        "#16477, November 2025",
        FROM_THE_RIGHT,
        marks=True,
        remark="splits Thai at its marks, which the model's own tokenizer does not",
    ),
    NamedPretokenizer(
        "gpt-2",
        "#6920, April 2024",
        RUNS,
        marks=False,
        expressions=(GPT2_REGEX,),
        aliases=("olmo", "mpt", "phi-2", "jais", "exaone4", "trillion"),
        transformers="GPT2Tokenizer, GPTNeoXTokenizer",
    ),
    NamedPretokenizer(
        "smollm",
        "#8609, July 2024",
        ONE,
        marks=False,
        expressions=(r"\p{N}", GPT2_REGEX),
        aliases=("starcoder", "command-r", "refact", "exaone", "minerva-7b"),
    ),
    NamedPretokenizer(
        "qwen2",
        "#7114, May 2024",
        ONE,
        marks=False,
        expressions=(QWEN_REGEX,),
        aliases=("stablelm2", "deepseek-r1-qwen", "grok-2", "hunyuan", "megrez", "solar-open"),
        transformers="Qwen2Tokenizer",
    ),
    NamedPretokenizer(
        "llama-bpe",
        "#6920, April 2024",
        THREE,
        marks=False,
        expressions=(LLAMA3_REGEX,),
        whole_words=True,
        aliases=("llama3", "falcon3", "pixtral", "lfm2"),
    ),
    NamedPretokenizer(
        "smaug-bpe",
        "#7402, May 2024",
        THREE,
        marks=False,
        expressions=(LLAMA3_REGEX,),
        aliases=("dbrx", "glm4", "chatglm-bpe"),
    ),
    NamedPretokenizer(
        "kimi-k2",
        "#14654, July 2025",
        THREE,
        marks=False,
        remark="the model's own tokenizer keeps marks inside words",
    ),
    NamedPretokenizer(
        "gpt-4o",
        "#12108, February 2025",
        THREE,
        marks=False,
        aliases=("llama4", "kanana2", "minimax-m2"),
        remark="the model's own tokenizer keeps marks inside words",
    ),
    NamedPretokenizer(
        "tekken",
        "#8579, July 2024",
        ONE,
        marks=False,
        whole_words=True,
        remark="the model's own tokenizer keeps marks inside words",
    ),
)
"""The names that keep marks inside words, then those that split words at marks."""

BY_NAME = {named.name: named for named in NAMED_PRETOKENIZERS}
MARK_AWARE_NAMES = tuple(
    named.name for named in NAMED_PRETOKENIZERS if named.marks and named.expressions
)
"""The names that a base may be given: they keep marks, and tokenizer.json can express them."""

PretokenizerMode = Literal[
    "auto",
    "keep",
    "repair",
    "named",
    "qwen35",
    "granite-embed-multi-97m",
    "youtu",
    "deepseek-v3",
    "spark2_5",
    "exaone-moe",
    "bloom",
    "viking",
]
"""The values of `vocabulary.pretokenizer`: four rules, then `MARK_AWARE_NAMES`."""

_REPLACEABLE = {"Split", "Digits", "ByteLevel"}


def use_named_pretokenizer(data: Data, named: NamedPretokenizer) -> Data | None:
    """Return a tokenizer.json with a named pre-tokenizer, `None` where its steps do not allow it.

    The steps that split text are replaced. The step that maps bytes to characters stays.
    """
    steps = pre_tokenizers(data)
    # Steps of other kinds, and the space before every text, are part of no named pre-tokenizer.
    if not steps or steps[-1].get("type") != "ByteLevel":
        return None
    if any(step["type"] not in _REPLACEABLE or step.get("add_prefix_space") for step in steps):
        return None
    sequence = [*map(split_step, named.expressions), {**steps[-1], "use_regex": False}]
    return {**data, "pre_tokenizer": {"type": "Sequence", "pretokenizers": sequence}}
