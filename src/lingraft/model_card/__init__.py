"""The model card: `model/README.md` of every finished run, in the format of the Hub.

All its content is read from the run folder: recipe, stages and measurements. Information that the
recipe does not have (the licence of a text, for example) is shown as "not stated", never guessed.
"""

from lingraft.model_card.write_card import CARD, card_text, write_card

__all__ = ["CARD", "card_text", "write_card"]
