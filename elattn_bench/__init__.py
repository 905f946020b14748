"""A benchmark of attention implementations: latency, memory, parameters and error against sequence length."""

__version__ = "0.1.0"
