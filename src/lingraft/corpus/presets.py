"""Data sets on the Hub that have a short name, and the configuration of each for a language.

`presets.toml` holds the table. A preset has these keys:

- `repository`, `text_field`, `licence`, `description`: the data set. No revision is fixed: a run
  resolves the newest commit, and its key and its record contain that commit.
- `configuration`: a pattern with `{iso}` (ISO 639-3), `{script}` (ISO 15924) or `{code}` (the
  short code of the language).
- `codes`: the data set's code of a language, where it is not the usual one.
- `scripts`, `default_scripts`: the data set's name of a script, and the scripts of languages whose
  likely script is another one in CLDR.
- `languages`: all codes, if the data set has few. `missing`: the preset to use for a language.

The mapping needs no network. Whether a data set has a configuration is known when its commit is
resolved: `hub_dataset` then compares it with the configurations that the card lists.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

import langcodes

from lingraft.corpus.language import is_domain, parse_language
from lingraft.errors import CorpusError, did_you_mean

DEFAULT_LIMIT = 100_000_000
"""Bytes of text that are read of a preset if neither a limit nor a training budget says it."""

DEFAULT_HELDOUT_LIMIT = 10_000_000
"""The same for a preset that is a source of held-out text."""

FEW_NAMES = 12
MANY_NAMES = 120
"""A message lists few names, the nearest of more, or else up to many."""

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Preset:
    """A data set on the Hub with a short name; the module explains the fields."""

    name: str
    repository: str
    configuration: str
    licence: str
    description: str
    text_field: str = "text"
    codes: Mapping[str, str] = field(default_factory=lambda: _NONE)
    scripts: Mapping[str, str] = field(default_factory=lambda: _NONE)
    default_scripts: Mapping[str, list[str]] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=lambda: _NONE)

    def configuration_for(self, language: str) -> str:
        """Return the configuration for a BCP-47 tag; raises `CorpusError` if there is none.

        >>> [preset("fineweb-2").configuration_for(tag) for tag in ("hi", "sr-Latn", "zh-TW", "fa")]
        ['hin_Deva', 'srp_Latn', 'cmn_Hani', 'fas_Arab']
        >>> preset("wikipedia").configuration_for("arb"), preset("c4").configuration_for("he")
        ('20231101.ar', 'iw')
        """
        if is_domain(language):
            raise self._refusal(
                language, "is not a language; name text of the domain, or set `config`"
            )
        tag = langcodes.Language.get(parse_language(language))
        if substitute := self.missing.get(str(tag.language)):
            raise self._refusal(language, f"is not in the data set; use {substitute}")
        if "{iso}" in self.configuration:
            return self._iso_configuration(tag, language)
        code = self._code(tag, language)
        return self.configuration.format(code=code)

    def _iso_configuration(self, tag: langcodes.Language, given: str) -> str:
        script = str(tag.maximize().script)
        primary = _macrolanguages().get(str(tag.language), str(tag.language))
        codes = {**_table()["individual_languages"], **self.codes}
        # The most specific entry counts: fa-AF and az-Arab are other languages than fa and az.
        for key in (f"{primary}-{tag.territory}", f"{primary}-{script}", primary):
            if key in codes:
                iso = codes[key]
                break
        else:
            try:
                iso = tag.to_alpha3()
            except LookupError:
                raise self._refusal(given, "has no ISO 639-3 code") from None
        if tag.script is None:
            for name, languages in self.default_scripts.items():
                script = name if iso in languages else script
        return self.configuration.format(iso=iso, script=self.scripts.get(script, script))

    def _code(self, tag: langcodes.Language, given: str) -> str:
        """Return the code of a data set whose codes are short; most of them have no script."""
        language, script = str(tag.language), tag.maximize().script
        keys = (tag.to_tag(), f"{language}-{script}", language)
        named = next((self.codes[key] for key in keys if key in self.codes), None)
        if named:
            return named
        macrolanguage = _macrolanguages().get(language, "")
        # Only ISO 639-1 codes have two letters; other macrolanguages are rarely named in full.
        code = macrolanguage if len(macrolanguage) == 2 else language
        if self.languages and code not in self.languages:
            known = describe_names(code, self.languages)
            raise self._refusal(given, f"is not in the data set; {known}")
        if script == langcodes.Language.get(code).maximize().script:
            return code
        if f"{code}-{script}" in self.languages:
            return f"{code}-{script}"
        config = self.configuration.format(code=code)
        reason = (
            f"has no configuration by script; write {language} or {{preset: {self.name}, "
            f"config: {config}}} for all text of the language"
        )
        raise self._refusal(given, reason)

    def _refusal(self, language: str, reason: str) -> CorpusError:
        return CorpusError(f"{self.name} ({self.repository}): {language} {reason}")


def describe_names(wanted: str, names: Collection[str]) -> str:
    """Say which names a data set has: all of a few, or the nearest of many.

    Nearest to the name of a language are those of the same language, since codes that are spelled
    alike say nothing; nearest to other names are those spelled alike.

    >>> describe_names("hin_Arab", ["tam_Taml", "hin_Latn", "hin_Deva"])
    'it has hin_Deva, hin_Latn, tam_Taml'
    >>> describe_names("tel_Arab", [f"{n}_Latn" for n in range(1000)] + ["tel_Telu"])
    'nearest of its 1,001: tel_Telu'
    """
    if len(names) <= FEW_NAMES:
        return f"it has {', '.join(sorted(names))}"
    language = _language_of(wanted)
    if language:
        near = [name for name in sorted(names) if _language_of(name) == language]
    else:
        near = difflib.get_close_matches(wanted, names, n=3)
    if near:
        return f"nearest of its {len(names):,}: {', '.join(near[:FEW_NAMES])}"
    if len(names) <= MANY_NAMES:
        return f"it has {', '.join(sorted(names))}"
    return f"none of its {len(names):,} is {'in this language' if language else 'like it'}"


def _language_of(name: str) -> str | None:
    """Return the language in the name of a configuration, `None` if it does not name one.

    >>> [_language_of(name) for name in ("tel_Telu", "20231101.zh-yue", "hi-Latn", "sample-10BT")]
    ['tel', 'zh', 'hi', None]
    """
    found = re.fullmatch(r"(?:\d+\.)?([a-z]{2,3})([_-][A-Za-z]+)*", name)
    return found[1] if found else None


@cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@cache
def _macrolanguages() -> dict[str, str]:
    """Return the macrolanguage of each individual language that stands for it: arb -> ar."""
    table = _table()["individual_languages"]
    return {langcodes.standardize_tag(iso): tag for tag, iso in table.items() if "-" not in tag}


@cache
def presets() -> Mapping[str, Preset]:
    """Return all presets by name."""
    found = {}
    for name, values in _table().items():
        if "repository" in values:
            found[name] = Preset(name, **values)  # type: ignore[arg-type]
    return MappingProxyType(found)


def preset(name: str) -> Preset:
    """Return a preset; raises `CorpusError` with the names of all if there is none."""
    if name not in presets():
        msg = f"preset {name!r}: there is no such preset; {did_you_mean(name, presets())}"
        raise CorpusError(msg)
    return presets()[name]


def default_preset(language: str) -> str:
    """Return the preset for a language for which no text is named: the first with the language.

    >>> default_preset("te"), default_preset("en-GB")
    ('fineweb-2', 'fineweb-edu')
    """
    first = next(iter(presets().values()))
    primary = str(langcodes.Language.get(parse_language(language)).language)
    return first.missing.get(primary, first.name)


def preset_of(repository: str | None) -> Preset | None:
    """Return the preset of a repository on the Hub, `None` if it has none."""
    for candidate in presets().values():
        if candidate.repository == repository:
            return candidate
    return None
