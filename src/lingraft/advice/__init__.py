"""Advice before a run: how many tokens, which base, how much text, what it costs, what the loss will be.

`advise` answers for one or several bases, `predict_end` where a run will end, `cost_of` what it takes, `predictions`
and `checked` what was predicted of a finished run and what it measured. Nothing here imports torch on import.
"""

from lingraft.advice.advising import Advice, Advised, Wanted, advise, advised_table, as_json
from lingraft.advice.costs import Cost, Gpus, Shape, cost_of, serving_gain
from lingraft.advice.sizing import SizeAdvice, advise_size
from lingraft.forecast.loss_forecast import Forecast, LossPoint, predict_end
from lingraft.forecast.predict_fertility import TokensPerByte, tokens_per_byte
from lingraft.forecast.run_predictions import Checked, Predicted, checked, predictions

__all__ = ["Advice", "Advised", "Checked", "Cost", "Forecast", "Gpus", "LossPoint", "Predicted", "Shape", "SizeAdvice",
           "TokensPerByte", "Wanted", "advise", "advise_size", "advised_table", "as_json", "checked", "cost_of",
           "predict_end", "predictions", "serving_gain", "tokens_per_byte"]
