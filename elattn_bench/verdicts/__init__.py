"""What the rows of runs support, and how surely: comparisons, scaling, crossovers, trends. Pure: no torch."""
