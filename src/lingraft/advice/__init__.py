"""Advice before a run: tokenizer diagnosis, tokens to add, choice of the base, costs.

`diagnose` needs only tokenizers and text, and takes seconds. `advise` also scores the bases,
predicts the end of training and computes the costs. Every prediction is made on text that the
tokens were not learned from, and has an interval. No torch at import.
"""

from lingraft.advice.advice_request import AdviceRequest, parse_request
from lingraft.advice.advice_tables import advice_json, advice_tables
from lingraft.advice.advise import Advice, BaseAdvice, advise
from lingraft.advice.choose import SizeAdvice, advise_size
from lingraft.advice.costs import Cost, Gpus, cost_of, serving_gain
from lingraft.advice.diagnose_command import diagnose_command
from lingraft.advice.diagnosis import Diagnosis, LanguageFinding, Rank, TokenizerFindings, diagnose
from lingraft.advice.diagnosis_json import diagnosis_json
from lingraft.advice.measures import Measures, measure, premium
from lingraft.advice.recommend import Recommendation, recommend
from lingraft.advice.render import diagnosis_page, diagnosis_tables
from lingraft.advice.text_sample import TextSample, read_sample
from lingraft.forecast.loss_forecast import Forecast, LossPoint, predict_end
from lingraft.forecast.predict_fertility import TokensPerByte, tokens_per_byte
from lingraft.forecast.prediction import (
    CheckedPrediction,
    Prediction,
    check_predictions,
    read_predictions,
)
from lingraft.pipeline.model_shape import Shape

__all__ = [
    "Advice",
    "AdviceRequest",
    "BaseAdvice",
    "CheckedPrediction",
    "Cost",
    "Diagnosis",
    "Forecast",
    "Gpus",
    "LanguageFinding",
    "LossPoint",
    "Measures",
    "Prediction",
    "Rank",
    "Recommendation",
    "Shape",
    "SizeAdvice",
    "TextSample",
    "TokenizerFindings",
    "TokensPerByte",
    "advice_json",
    "advice_tables",
    "advise",
    "advise_size",
    "check_predictions",
    "cost_of",
    "diagnose",
    "diagnose_command",
    "diagnosis_json",
    "diagnosis_page",
    "diagnosis_tables",
    "measure",
    "parse_request",
    "predict_end",
    "premium",
    "read_predictions",
    "read_sample",
    "recommend",
    "serving_gain",
    "tokens_per_byte",
]
