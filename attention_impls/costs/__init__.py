"""What every attention costs at least: operations, traffic, state; a file per kind. No torch."""
