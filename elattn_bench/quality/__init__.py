"""What an attention costs in quality: the same network trained on real data, the attention exchanged.

Tasks, models, suites and results know no torch; ``training`` and ``nets`` are imported in the worker alone.
"""
