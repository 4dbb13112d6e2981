"""Predict fertility with added tokens, the loss at the end of training, and the results of a run.

No torch at import.
"""
