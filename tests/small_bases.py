"""Small real tokenizers to extend: learned on the spot, one for each family."""

from __future__ import annotations

import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lingraft.tokenizer.convert import GPT2_REGEX, LLAMA3_REGEX
from lingraft.tokenizer.sentencepiece_bpe import UNIT_PATTERN

ENGLISH = [
    "the cat sat on the mat and the dog ran to the other cat",
    "there is nothing like this in the world, is it?",
    "she sells sea shells; 12 shells cost 3.50 on the shore",
    "hello world\nhello there  and goodbye",
]


def byte_level(texts=ENGLISH, size=330, pattern=GPT2_REGEX, specials=("<|endoftext|>",)):
    """A GPT-2-like tokenizer whose special tokens come right after the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(specials))
    data = json.loads(tokenizer.to_str())
    for special in specials:
        data["model"]["vocab"].pop(special, None)
    return data


def sentencepiece(texts=ENGLISH, size=330):
    """A Llama-2-like tokenizer: dummy prefix, byte fallback, three special tokens first."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(UNIT_PATTERN), "isolated")
    learner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size - 259, show_progress=False)
    )
    learned = json.loads(learner.to_str())["model"]
    special = ["<unk>", "<s>", "</s>"]
    pieces = [
        *special,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *(p for p in learned["vocab"] if p != "\n"),
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {piece: i for i, piece in enumerate(pieces)},
        "merges": learned["merges"],
    }
    added = [
        {
            "id": i,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, name in enumerate(special)
    ]
    decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    shell = Tokenizer(models.BPE())
    shell.normalizer = learner.normalizer
    shell.decoder = decoder
    return {**json.loads(shell.to_str()), "added_tokens": added, "model": model}


def gemma(texts=ENGLISH, size=330):
    """A Gemma-like tokenizer: no dummy prefix, pieces for runs of spaces and line breaks.

    It falls back to bytes.
    """
    data = sentencepiece(texts, size)
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    for piece in ("\n", "▁▁", "▁▁▁▁", "\n\n"):
        vocab.setdefault(piece, len(vocab))  # the text may have taught some of them
    merges += [run for run in (["▁", "▁"], ["▁▁", "▁▁"], ["\n", "\n"]) if run not in merges]
    split = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    decoder = {"type": "Sequence", "decoders": data["decoder"]["decoders"][:3]}
    return {**data, "normalizer": replace, "pre_tokenizer": split, "decoder": decoder}


def metaspace(texts=ENGLISH, size=330):
    """A Llama-like tokenizer as newer files write it.

    The pre-tokenizer puts the space in, once, at the start.
    """
    data = sentencepiece(texts, size)
    pre = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return {**data, "normalizer": None, "pre_tokenizer": pre}


def bloom(texts=ENGLISH, size=330):
    """A BLOOM-like tokenizer: byte-level, its regex cuts at punctuation, special tokens first."""
    return byte_level(
        texts, size, r" ?[^(\s|[.,!?…。，、।۔،])]+", ("<unk>", "<s>", "</s>", "<pad>")
    )


def llama3(texts=ENGLISH, size=330):
    """A Llama-3-like tokenizer: whole pre-tokens are looked up before merging.

    Its many special tokens are at the end.
    """
    data = byte_level(
        texts, size, LLAMA3_REGEX, ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_0|>")
    )
    data["model"]["ignore_merges"] = True
    return data


BASES = {
    "byte-level BPE": byte_level,
    "SentencePiece BPE": sentencepiece,
    "Gemma": gemma,
    "Metaspace": metaspace,
    "BLOOM": bloom,
    "Llama-3": llama3,
}
