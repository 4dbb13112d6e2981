"""The certificate of an extended tokenizer: claims about it, each measured on the saved files.

Other claims compare the source with what other libraries read (`source_claims`, `file_claims`) and
with the finished model (`result_claims`). The pipeline checks those before and after the extension.
"""

from lingraft.certificate.claims import (
    CLAIM_NAMES,
    NEVER_WAIVED,
    NORMALISER,
    Certificate,
    Claim,
    Evidence,
    write_certificate,
)
from lingraft.certificate.loading_claims import certify_loading
from lingraft.certificate.pretokenizer_claims import certify_pretokenizer
from lingraft.certificate.text_claims import (
    BASE_LOSS,
    certify_any_text,
    certify_edge_cases,
    certify_texts,
)
from lingraft.certificate.vocabulary_claims import certify_vocabulary

__all__ = [
    "BASE_LOSS",
    "CLAIM_NAMES",
    "NEVER_WAIVED",
    "NORMALISER",
    "Certificate",
    "Claim",
    "Evidence",
    "certify",
    "certify_any_text",
    "certify_texts",
    "certify_vocabulary",
    "write_certificate",
]


def certify(evidence: Evidence) -> list[Claim]:
    """Check all claims about the extended tokenizer."""
    return [
        *certify_vocabulary(evidence),
        *certify_texts(evidence),
        *certify_pretokenizer(evidence),
        certify_edge_cases(evidence),
        certify_any_text(evidence),
        *certify_loading(evidence),
    ]
