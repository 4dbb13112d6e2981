"""Match the names of the tensors that came back with those that were handed over."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.checkpoint.stored_names import stored_names
from lingraft.splice import Splice
from lingraft.trainers.compared_weights import ComparedWeights, listed
from lingraft.training.save_model import COMPUTED

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and recomputation add to the names of layers that they wrap."""


def match_names(
    compared: ComparedWeights, returned: Checkpoint, before: Checkpoint, splice: Splice
) -> None:
    """Find tensors that are missing, unknown, or of another data type."""
    missing = [name for name in before.tensors if name not in returned.tensors]
    unknown = [name for name in returned.tensors if name not in before.tensors]
    if missing and unknown:
        compared.renamed = _find_renamed(returned, before)
        missing = [name for name in missing if name not in compared.renamed.values()]
        unknown = [name for name in unknown if name not in compared.renamed]
    # Before the head: a wrapped embedding would be taken for one.
    if part := _added_by_wrapper(missing, unknown):
        what = f"the names of {len(unknown):,} tensors have {part!r} in addition"
        compared.find("tensor names with a prefix", "*.safetensors", what, "refused")
        return
    _find_head(compared, returned, unknown, splice)
    unknown = [name for name in unknown if name != compared.head and not name.endswith(COMPUTED)]
    copies = set(compared.names.input[1:]) if compared.names.tied else set()
    lost = [name for name in missing if not name.endswith(COMPUTED) and name not in copies]
    if lost:
        folder = before.folder
        model = meta_model(read_model_config(folder), folder)
        loaded = {
            stored for names in stored_names(model, before.tensors).values() for stored in names
        }
        # transformers saves only what it loads: other tensors come back from the hand-over.
        compared.restored = [name for name in lost if name not in loaded]
        lost = [name for name in lost if name in loaded]
    where = "*.safetensors"
    if lost or unknown:
        what = f"{len(lost):,} tensors are missing{listed(lost)}, {len(unknown):,} are unknown"
        what += listed(unknown)
        compared.find("another model", where, what, "refused")
    if compared.restored:
        what = f"{len(compared.restored):,} tensors that transformers does not load"
        compared.find("missing files", where, what, "repaired")
    types: dict[tuple[str, str], int] = {}
    for name, place in returned.tensors.items():
        old = before.tensors.get(compared.renamed.get(name, name))
        if old is not None and old.dtype != place.dtype:
            types[old.dtype, place.dtype] = types.get((old.dtype, place.dtype), 0) + 1
    for (old_type, new_type), count in types.items():
        what = f"{count:,} tensors are {new_type}, handed over in {old_type}"
        compared.find("other data type", where, what, "kept")


def _find_renamed(returned: Checkpoint, before: Checkpoint) -> dict[str, str]:
    """Return the handed-over name of each tensor that transformers saves under another name.

    A checkpoint keeps the names of its publication (`wte.weight`), while transformers saves those
    of its classes (`transformer.wte.weight`) and loads both.
    """
    model = meta_model(read_model_config(before.folder), before.folder)
    handed, found = (stored_names(model, side.tensors) for side in (before, returned))
    renamed = {}
    for parameter, names in found.items():
        others = handed.get(parameter, ())
        if len(names) == len(others) == 1 and names != others:
            renamed[names[0]] = others[0]
    return renamed


def _added_by_wrapper(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """Return what a wrapper of the model added to the names of its tensors, "" if nothing.

    >>> _added_by_wrapper(["norm.weight"], ["module.lm_head.weight", "module.norm.weight"])
    'module.'
    >>> _added_by_wrapper(["layers.0.bias"], ["layers.0._orig_mod.bias"])
    '_orig_mod.'
    """
    known = set(missing)
    for name in unknown:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            prefix = ".".join(parts[:depth]) + "."
            is_known = name.removeprefix(prefix) in known
            if is_known and all(other.startswith(prefix) for other in unknown):
                return prefix
    for part in WRAPPERS:
        if any(part in name and name.replace(part, "") in known for name in unknown):
            return part
    return ""


def _find_head(
    compared: ComparedWeights, returned: Checkpoint, unknown: Sequence[str], splice: Splice
) -> None:
    """Find the head of a model that was handed over with tied embeddings."""
    names = compared.names
    for name in unknown if names.tied else ():
        place = returned.tensors[name]
        if place.shape[1:] == (names.width,) and place.shape[0] >= splice.target_size:
            compared.head = name
            return
