"""How often the 95 % interval of a fitted exponent holds the truth, and how wide it is: the table of docs/verdicts.md.

python docs/results/coverage.py
"""

from __future__ import annotations

import itertools

import numpy as np

from elattn_bench.verdicts import draws, fits

TRIALS = 1000
REPLICATES = draws.REPLICATES
FLOOR = 0.01
NOISES = ((0.015, 0.0), (0.015, 0.015), (0.01, 0.05))  # standard deviations: of a median, between cases
SHARES = (0.0, 1.0, 10.0)  # constant over the growing part at the shortest length


def trial(lengths: int, exponent: float, share: float, median: float, between: float) -> tuple[float, float]:
    """Share of trials in which the interval holds the exponent, and the median of its width."""
    generator = np.random.default_rng(0)
    places = 256.0 * 2.0 ** np.arange(lengths)
    true = np.log(share + (places / places[0]) ** exponent)
    size = (TRIALS, lengths)
    logs = true + generator.standard_normal(size) * np.hypot(median, between)
    drawn = generator.standard_normal((TRIALS, REPLICATES, lengths)) * median
    luck = generator.random(drawn.shape)
    found = fits.fit(fits.Medians(places, logs, np.full(size, median), drawn, FLOOR, luck)).exponents
    held = np.mean([each.holds(exponent) for each in found])
    return float(held), float(np.median([each.high - each.low for each in found]))


def main() -> None:
    """Print the table as Markdown."""
    noises = [f"{median:.1%} / {between:.1%}" for median, between in NOISES]
    print(f"| lengths | truth | constant | {' | '.join(noises)} |")
    print("|---:|---:|---:|" + "---:|" * len(NOISES))
    for lengths, exponent, share in itertools.product((5, 6, 8, 10), (1.0, 2.0), SHARES):
        cells = [trial(lengths, exponent, share, *noise) for noise in NOISES]
        shown = " | ".join(f"{held:.1%}, {width:.2f}" for held, width in cells)
        print(f"| {lengths} | L^{exponent:g} | {share:g}x | {shown} |")


if __name__ == "__main__":
    main()
