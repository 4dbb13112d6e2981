"""The functions that `import lingraft` offers, on the objects that users have.

A model is an `nn.Module` of transformers, a tokenizer comes from `AutoTokenizer`, and text is any
iterable of `str`. `lingraft/__init__.py` lists the functions and imports their modules on first
use, because `import lingraft` also runs before `lingraft --help` and must stay fast.
"""
