"""A loop of steps that resumes: what is stored of it is used if it is whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lingraft.embeddings import resumable_loop
from lingraft.embeddings.resumable_loop import ResumableLoop


def run(file: Path, steps: int) -> tuple[list[float], list[int]]:
    """Run a loop on two numbers; return them at the end, and the steps that were made."""
    numbers = torch.tensor([3.0, -2.0], requires_grad=True)
    optimizer = torch.optim.Adam([numbers], lr=0.1)
    made: list[int] = []

    def step(number: int) -> tuple[float, ...]:
        made.append(number)
        loss = (numbers**2).sum() * (number + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return (loss.item(),)

    losses = ResumableLoop("numbers", steps, [numbers], optimizer, file).run(step)
    assert len(losses) == steps
    return numbers.tolist(), made


def test_saved_progress_is_used_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop, the end is bit-identical; of a damaged file, the loop starts again."""
    monkeypatch.setattr(resumable_loop, "SAVE_SECONDS", 0)
    monkeypatch.setattr(resumable_loop, "MAX_SAVING_SHARE", 1e9)
    whole, made = run(tmp_path / "whole", 8)
    assert made == list(range(8))
    file = tmp_path / "loop"
    run(file, 5)
    saved = file.read_bytes()
    resumed, made = run(file, 8)
    assert resumed == whole
    assert made == [5, 6, 7]
    changed = bytearray(saved)
    changed[-1] ^= 1
    for damaged in (bytes(changed), saved[:-3], b"", saved.replace(b"losses", b"losseS")):
        file.write_bytes(damaged)
        resumed, made = run(file, 8)
        assert resumed == whole
        assert made == list(range(8))
