"""The model card: `model/README.md` of every finished run, ready for a hub.

Everything it says is read from the run folder: recipe, stages and measurements. What a recipe does not state (the
licence of a text, say) is called not stated, never guessed.
"""

from lingraft.model_card.write_card import CARD, card_text, write_card

__all__ = ["CARD", "card_text", "write_card"]
