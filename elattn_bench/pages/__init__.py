"""What documents take from the code and from committed runs: ``python -m elattn_bench.pages`` writes all of it anew."""
