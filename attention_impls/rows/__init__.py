"""The literal table of all attentions, a file per kind. ``registry.py`` joins them."""
