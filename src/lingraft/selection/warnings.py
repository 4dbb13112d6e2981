"""What an extension warns of after its certificate: thin evidence, and much changed base text."""

from __future__ import annotations

from lingraft.certificate import Claim
from lingraft.certificate.thin_text import enough_texts, is_thin
from lingraft.corpus import Corpus
from lingraft.store import Draft


def warn_of_thin_evidence(corpus: Corpus, draft: Draft) -> None:
    """Warn where the certificate has few documents of a language to check its claims on."""
    held_out = corpus.counts("heldout")
    if not is_thin(held_out.documents):
        return
    texts = sum(1 for _ in enough_texts(corpus.documents("heldout")))
    draft.warn(
        f"certificate: {held_out.documents:,} held-out documents of {corpus.language} "
        f"({held_out.bytes:,} bytes) are thin evidence; with their lines and sentences "
        f"{texts:,} texts are checked; give more text, or raise heldout_share"
    )


def changed_base_text(changed: Claim, language: str, cost: float | None) -> str:
    """Return the warning that much base text is tokenised differently, with the price of protection.

    `cost` is the share by which the target text would grow, `None` where a method cannot say.
    """
    price = "at a cost that this method cannot predict"
    if cost is not None:
        price = f"for {cost:.1%} more tokens in the target text"
    return (
        f"vocabulary: {changed.value:,} of {changed.of:,} held-out texts in {language} "
        f"({changed.value / changed.of:.1%}) are tokenised differently than before; "
        f"vocabulary.protect_replay: true keeps all training text in {language} as it was, {price}"
    )
