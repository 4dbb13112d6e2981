"""`python -m lingraft` runs the command line. Launchers such as torchrun start it this way."""

from lingraft.cli import main

if __name__ == "__main__":
    main()
