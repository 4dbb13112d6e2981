"""`lingraft.extend_tokenizer` and `lingraft.learn_tokens`: the vocabulary stage, in memory.

Text is cleaned and split, tokens are learned, and the result is certified by the functions that
`lingraft extend` runs. The extended tokenizer is read back from the files that they write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from lingraft.errors import RecipeError
from lingraft.library.arguments import assignments, check_number, keyword_names
from lingraft.library.extension_results import LearnedTokens, TokenizerExtension
from lingraft.library.given_tokenizer import TokenizerLike
from lingraft.library.prepared_extension import AllTexts, PreparedExtension
from lingraft.pretokenizer.named_pretokenizers import PretokenizerMode
from lingraft.progress import LogLine, send_lines_to
from lingraft.recipe.overrides import override
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.tree import Tree
from lingraft.recipe.vocabulary_settings import VocabularySettings
from lingraft.vocabulary import AutoSize, Selection

Method: TypeAlias = str | Mapping[str, Any] | Selection
"""A method of `vocabulary.method`: its name, `{name: settings}`, or a finished object."""


def extend_tokenizer(
    tokenizer: TokenizerLike,
    texts: AllTexts,
    *,
    size: int | Literal["auto"] | AutoSize | None = None,
    base_texts: AllTexts | None = None,
    language: str | None = None,
    method: Method | None = None,
    pretokenizer: PretokenizerMode | None = None,
    protect_replay: bool | None = None,
    temperature: float | None = None,
    balance: Literal["size", "premium"] | None = None,
    parallel: Mapping[str, Sequence[str]] | None = None,
    allow: Sequence[str] | None = None,
    settings: VocabularySettings | Mapping[str, Any] | None = None,
    text_settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    log: LogLine | None = None,
) -> TokenizerExtension:
    """Learn tokens from texts and add them to a tokenizer; the given tokenizer is not changed.

    The keywords from `size` on are the settings `vocabulary` of a recipe (`lingraft settings
    vocabulary`), which can be given as `settings` instead. Texts are cleaned, and 1% of them is
    held out to check the result, as in a run: the same text gives the same tokenizer.json as
    `lingraft extend`.

    Args:
        tokenizer: a tokenizer of transformers, a folder with its files, or a Hub id.
        texts: documents in the target language: an iterable of `str`, a `pathlib.Path`, or
            `{language: texts}` for several languages.
        size: number of tokens to add (10,000), or "auto".
        base_texts: documents in a language that the model knows. The certificate reports how many
            of them change; see `vocabulary.pretokenizer` in the settings for those that a changed
            pre-tokenizer must not change.
        language: BCP-47 tag of `texts`, for messages.
        method: how tokens are chosen ("continued").
        pretokenizer: "auto", "keep", "repair", "named", or the name of a mark-aware pre-tokenizer
            of llama.cpp, such as "qwen35".
        protect_replay: whether to add no token that would change the tokens of `base_texts`.
        temperature: with several languages, evens out their shares above 1.
        balance: with several languages, "premium" learns tokens until all languages need equally
            many for the same content, instead of by their amounts of text ("size").
        parallel: the same sentences by language, with `en` among them, on which `balance` counts
            tokens. By default, it uses a table of text lengths.
        allow: names of claims of the certificate that may fail.
        settings: a mapping of settings, or `VocabularySettings`, in place of the keywords above.
        text_settings: settings of a text in a recipe (`lingraft settings target`), for all texts,
            such as `{"cleaning": {"normalise": "NFC"}, "allow": ["wrong_script"]}`.
        workers: processes that count words; they do not change the result. A script that asks for
            more than one needs `if __name__ == "__main__":`, because each imports it.
        log: receives the lines of progress and the warnings. By default, they go to standard error.

    The result's class is `PreTrainedTokenizerFast`, which loads tokenizer.json unchanged; the class
    of a model may build its own pre-tokenizer. Chat template, special tokens and the settings of
    the class are kept.

    Raises `TokenizerError` for a tokenizer that is not supported, `CorpusError` for text that is
    missing or no text, `RecipeError` for a setting, and `CertificateError` if a claim fails.

    >>> from lingraft.library.example_model import example_model
    >>> _, base = example_model("en")  # or AutoTokenizer.from_pretrained(...)
    >>> texts = [f"नदी के किनारे पेड़ {number}" for number in range(60)]
    >>> extension = extend_tokenizer(base, texts, size=12, language="hi")
    >>> len(extension.tokenizer) - len(base), extension.certificate.holds
    (12, True)
    >>> before, after = base.tokenize("पेड़ के किनारे"), extension.tokenizer.tokenize("पेड़ के किनारे")
    >>> len(before), len(after) < len(before)
    (38, True)
    """
    chosen = _settings(
        settings,
        size=size,
        method=method,
        pretokenizer=pretokenizer,
        protect_replay=protect_replay,
        temperature=temperature,
        balance=balance,
        allow=allow,
    )
    others = {
        "base_texts": base_texts,
        "language": language,
        "parallel": parallel,
        "text_settings": text_settings,
    }
    with _prepared(tokenizer, texts, chosen, log=log, workers=workers, **others) as given:
        return given.extend()


def learn_tokens(
    tokenizer: TokenizerLike,
    texts: AllTexts,
    *,
    size: int | Literal["auto"] | AutoSize | None = None,
    base_texts: AllTexts | None = None,
    language: str | None = None,
    method: Method | None = None,
    pretokenizer: PretokenizerMode | None = None,
    protect_replay: bool | None = None,
    temperature: float | None = None,
    balance: Literal["size", "premium"] | None = None,
    parallel: Mapping[str, Sequence[str]] | None = None,
    settings: VocabularySettings | Mapping[str, Any] | None = None,
    text_settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    log: LogLine | None = None,
) -> LearnedTokens:
    """Learn the tokens that `extend_tokenizer` would add, without building and checking a result.

    The arguments and the errors are those of `extend_tokenizer`. Tokens come in rank order, so the
    first 1,000 of a larger number are those of `size=1000` for the default method.

    >>> from lingraft.library.example_model import example_model
    >>> _, base = example_model("en")  # or AutoTokenizer.from_pretrained(...)
    >>> learned = learn_tokens(base, [f"banana bandana {n}" for n in range(60)], size=4)
    >>> [token.text for token in learned.tokens]
    ['ana', 'ban', ' band', 'banana']
    >>> learned.merges[0], learned.curve["tokens"][-1] < learned.tokens_before
    (('an', 'a'), True)
    """
    chosen = _settings(
        settings,
        size=size,
        method=method,
        pretokenizer=pretokenizer,
        protect_replay=protect_replay,
        temperature=temperature,
        balance=balance,
    )
    others = {
        "base_texts": base_texts,
        "language": language,
        "parallel": parallel,
        "text_settings": text_settings,
    }
    with _prepared(tokenizer, texts, chosen, log=log, workers=workers, **others) as given:
        return given.learn()


@contextmanager
def _prepared(
    tokenizer: TokenizerLike,
    texts: AllTexts,
    settings: VocabularySettings,
    *,
    log: LogLine | None,
    workers: int,
    **others: Any,
) -> Iterator[PreparedExtension]:
    """Prepare the inputs; inside the block, lines go to `log` and errors name keywords."""
    check_number(workers, "workers", at_least=1)
    with send_lines_to(log), keyword_names("vocabulary", VocabularySettings):
        settings.check_adds_tokens()
        yield PreparedExtension.of(tokenizer, texts, settings, workers=workers, **others)


def _settings(
    given: VocabularySettings | Mapping[str, Any] | None, **keywords: Any
) -> VocabularySettings:
    """Return the settings `vocabulary`, given as an object or as keywords."""
    values = {name: value for name, value in keywords.items() if value is not None}
    if isinstance(given, Mapping):
        given = parse_settings(
            override(Tree({}), assignments(given, "settings"), VocabularySettings),
            VocabularySettings,
        )
    if not (given is None or isinstance(given, VocabularySettings)):
        msg = f"settings: of type {type(given).__name__}; give a mapping of settings"
        raise RecipeError(msg)
    if given is None:
        given = parse_settings(Tree(values), VocabularySettings)
    elif values:
        msg = f"settings: also given as {', '.join(values)}; set them in one of the two places"
        raise RecipeError(msg)
    if given.weighs_serving_cost:
        msg = (
            "size: the rule `serving` weighs the cost of a model's head, and there is only a "
            "tokenizer; give a number, or the rule `marginal`"
        )
        raise RecipeError(msg)
    return given
