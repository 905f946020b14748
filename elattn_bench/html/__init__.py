"""The report of a run: one HTML file with its verdicts, charts, table and circumstances; opens without a network."""
