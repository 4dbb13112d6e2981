"""Checkpoint surgery: a model folder whose embedding rows follow a splice, everything else byte for byte as it was.

Works on the safetensors files themselves. A row that the splice keeps is copied as bytes, never decoded; rows that it
adds are made by an `EmbeddingInit` for the input and the output matrix separately; other tensors are streamed, and
files without a changed tensor are hard-linked. Nothing is ever unpickled. No torch at import.
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
