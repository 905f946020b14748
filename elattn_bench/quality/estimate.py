"""How long a training may take: a guess from its size, for plans and progress bars. No torch, nothing measured."""

from __future__ import annotations

from elattn_bench.quality import tasks
from elattn_bench.quality.nets.counts import params, tokens_of
from elattn_bench.quality.nouns import Job, Task
from elattn_bench.units import Seconds

RATE = {"transformer": 40e9, "vgg": 120e9, "conv": 60e9}
"""Operations a second of one core of a server of 2024, as trainings reached them there."""

RATE_OF_OTHERS = 30e9

STEP: Seconds = 2e-3  # of a training step at least: Python, the optimiser
PASSES = 6  # operations of a training step per parameter and use: a multiply-add, forward and twice backward
EVALUATION = 1 / 3  # of a training step's work: forward alone


def seconds(job: Job) -> Seconds:
    """The training with its evaluations, on one core."""
    task, recipe = tasks.find(job.task), job.recipe
    if job.model.network in ("repeat-last", "bigram"):
        return 1.0
    examples = min(recipe.train_examples or task.train_examples, task.train_examples)
    judged = min(recipe.test_examples or task.test_examples, task.test_examples)
    each = PASSES * _uses(job, task) / RATE.get(job.model.network, RATE_OF_OTHERS)
    steps = -(-examples // recipe.batch)
    epoch = max(examples * each, steps * STEP) + EVALUATION * judged * each
    return recipe.epochs * epoch


def _uses(job: Job, task: Task) -> float:
    """How often parameters are used for an example: once each, or at every token or pixel."""
    form, count = task.form, params(job.model, task.form, job.recipe)
    if job.model.network == "transformer":
        return count * tokens_of(form, job.recipe)
    if job.model.network in ("vgg", "conv") and form.kind == "image":
        # Most parameters lie where the image is small, most work where it is large.
        height, width, _ = form.shape
        return count * height * width / CONV_SHRINKS
    return count


CONV_SHRINKS = (
    24.0  # a pixel's share of the parameters' work in vgg: 29 M multiply-adds of 882 k parameters on 784
)
