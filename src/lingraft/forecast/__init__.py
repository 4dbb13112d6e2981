"""Predict the fertility with added tokens, the loss at the end of training, and a run's results.

The modules need only numpy and scipy, so that advice runs without torch.
"""
