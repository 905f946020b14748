"""Hand-written kernels behind the ``fused`` backends, each imported only when it is asked for."""
