"""Graft a language onto a pretrained language model."""
