"""Predictions: fertility with added tokens, loss at the end of training, and the results of a run.

No module imports torch, so that `lingraft diagnose` and `lingraft report` start quickly.
"""
