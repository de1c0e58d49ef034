"""``python -m sim`` is the command ``resistime``."""

from sim.command import main

if __name__ == "__main__":
    main()
