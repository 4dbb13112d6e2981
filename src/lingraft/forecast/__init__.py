"""Predictions: fertility after adding tokens, loss at the end of training, and the prediction.json of a run.

No torch at import.
"""
