"""``python -m elattn_bench``: the same as the installed command."""

from elattn_bench.cli import main

if __name__ == "__main__":
    main()
