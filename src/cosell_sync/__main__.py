"""Lets ``python -m cosell_sync`` start the command line."""

from cosell_sync.cli.main import main

if __name__ == "__main__":
    main()
