"""Hands a run over to another trainer: the extended model, the packed text, and a configuration.

`write_folder` writes the folder, after `handover_checks`. `manifest` has the records of
handover.json, `records` makes them. `sequences`, `indexed_files` and `plain_text` write the text in
three forms, `data` chooses among them. `engine` is what lingraft knows of a trainer; `engines` has
one module for each.
"""

from lingraft.trainers.manifest import Handover

__all__ = ["Handover"]
