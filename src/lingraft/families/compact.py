"""Closing the holes that pruning leaves: ids close up, in their order."""

from __future__ import annotations

from lingraft.families.content import Data, copied


def compacted(data: Data) -> tuple[Data, dict[int, int]]:
    """Return the data with ids from 0 on without holes, and where each id went.

    >>> data = {"model": {"vocab": {"a": 0, "c": 2}}, "added_tokens": [{"id": 2, "content": "c"}]}
    >>> compacted(data)[0]["model"]["vocab"], compacted(data)[1]
    ({'a': 0, 'c': 1}, {0: 0, 2: 1})
    """
    taken = {*data["model"]["vocab"].values(), *(token["id"] for token in data["added_tokens"])}
    moved = {token_id: i for i, token_id in enumerate(sorted(taken))}
    data = copied(data)
    data["model"]["vocab"] = {piece: moved[token_id] for piece, token_id in data["model"]["vocab"].items()}
    for token in data["added_tokens"]:
        token["id"] = moved[token["id"]]
    for special in ((data.get("post_processor") or {}).get("special_tokens") or {}).values():
        special["ids"] = [moved[token_id] for token_id in special["ids"]]
    return data, moved
