"""The probe: which initialisation is worth a whole run, found by a short training with each on the user's own text.

The loss before any training does not rank initialisations; after some fifty steps it does. `probe` trains a few steps
with each init and seed, all else equal, scores the models on held-out text before and after, and claims an order only
where intervals over seeds carry it. No torch at import.
"""

from lingraft.probing.carrying_out import probe
from lingraft.probing.outcome import ProbeOutcome
from lingraft.probing.trials import Probe, Trial, inits_of, trials_of

__all__ = ["Probe", "ProbeOutcome", "Trial", "inits_of", "probe", "trials_of"]
