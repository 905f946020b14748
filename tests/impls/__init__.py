"""Tests of attention_impls."""
