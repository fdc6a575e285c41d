"""``python -m monodon`` is ``monodon``."""

from monodon.cli import main

if __name__ == "__main__":
    main()
