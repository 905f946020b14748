"""Other people's kernels behind our ops. A library is imported when its backend is first called, never before.

Every adapter says how it converts layouts and what of that runs inside the timed call, gives the scale and
the normalisation itself, never by the library's defaults, and returns our layout. ``peers.reasons`` says,
without torch on a CPU problem, why a peer cannot run.
"""
