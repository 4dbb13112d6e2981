"""The certificate of an extended tokenizer: what it promises, each promise measured on the saved files."""

from lingraft.certificate.claims import (
    CLAIM_NAMES,
    NEVER_WAIVED,
    Claim,
    Evidence,
    write_certificate,
)
from lingraft.certificate.loading_claims import certify_loading
from lingraft.certificate.pretokenizer_claims import certify_pretokenizer
from lingraft.certificate.text_claims import (
    BASE_LOSS,
    certify_any_text,
    certify_awkward,
    certify_texts,
)
from lingraft.certificate.vocabulary_claims import certify_rules

__all__ = [
    "BASE_LOSS",
    "CLAIM_NAMES",
    "NEVER_WAIVED",
    "Claim",
    "Evidence",
    "certify",
    "certify_any_text",
    "certify_rules",
    "certify_texts",
    "write_certificate",
]


def certify(evidence: Evidence) -> list[Claim]:
    """Check every claim."""
    return [
        *certify_rules(evidence),
        *certify_texts(evidence),
        *certify_pretokenizer(evidence),
        certify_awkward(evidence),
        certify_any_text(evidence),
        *certify_loading(evidence),
    ]
