"""The model card: `model/README.md` of every finished run, in the format of the Hub.

All its content is read from the run folder: run.json (recipe and stages) and the measurements.
Information that the recipe lacks, such as the licence of a text, is shown as "not stated".
"""

from lingraft.model_card.write_card import CARD, card_text, loading_code, write_card

__all__ = ["CARD", "card_text", "loading_code", "write_card"]
