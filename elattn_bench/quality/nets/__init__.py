"""Networks, as torch modules; imported in the worker alone."""
