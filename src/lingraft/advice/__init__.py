"""Advice before money is spent: how many tokens, which base, how much text, what it costs; and whether it came true.

`advise` answers for one or several bases, `predict_end` where a run will end, `cost_of` what it takes, `predictions`
and `checked` what was foretold of a finished run and what came out. Nothing here imports torch on import.
"""

from lingraft.advice.advising import Advice, Advised, Wanted, advise, advised_table, as_json
from lingraft.advice.costs import Cost, Gpus, Shape, cost_of, serving_gain
from lingraft.advice.keeping import Checked, Predicted, checked, keep_predictions, predictions
from lingraft.advice.sizing import SizeAdvice, TokensPerByte, advise_size, tokens_per_byte
from lingraft.training.forecast import Forecast, Point, predict_end

__all__ = ["Advice", "Advised", "Checked", "Cost", "Forecast", "Gpus", "Point", "Predicted", "Shape", "SizeAdvice",
           "TokensPerByte", "Wanted", "advise", "advise_size", "advised_table", "as_json", "checked", "cost_of",
           "keep_predictions", "predict_end", "predictions", "serving_gain", "tokens_per_byte"]
