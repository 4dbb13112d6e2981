"""Imported last by a process that forks commands: their garbage collection skips its imports."""

import gc

gc.freeze()
