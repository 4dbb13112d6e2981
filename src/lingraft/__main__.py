"""`python -m lingraft` is `lingraft`: what launchers such as torchrun call."""

from lingraft.cli import main

if __name__ == "__main__":
    main()
