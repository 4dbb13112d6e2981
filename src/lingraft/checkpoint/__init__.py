"""Read, check, load and rewrite model folders: safetensors files, config.json, the model class.

`resize_embeddings` writes a model folder whose embedding rows follow a splice and whose other bytes
do not change. It works on the safetensors files themselves: a kept row is copied as bytes and never
decoded, and files without a changed tensor are hard-linked. Nothing is unpickled, because a pickle
can run code.

Importing this package does not import torch, because settings are read without it. The modules
that it imports therefore import torch and transformers inside functions.
"""

from lingraft.checkpoint.embedding_resize import resize_embeddings
from lingraft.checkpoint.find_embeddings import EmbeddingNames, embedding_names
from lingraft.checkpoint.load_model import load_model
from lingraft.checkpoint.row_request import InitRequest, InitRows, RowMaker
from lingraft.checkpoint.safetensors_files import Checkpoint, TensorPlace

__all__ = [
    "Checkpoint",
    "EmbeddingNames",
    "InitRequest",
    "InitRows",
    "RowMaker",
    "TensorPlace",
    "embedding_names",
    "load_model",
    "resize_embeddings",
]
