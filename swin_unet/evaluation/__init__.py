"""Score predicted label maps against reference ones: metrics.json, metrics.csv and a table.

Means: per class over the cases, leaving out undefined values (NaN, null in the files), which the
counts `missed`, `false_positive` and `absent` account for; `mean` is the mean of the classes.
What is undefined, and what the protocols do with absent classes: see `swin_unet.metrics`.
"""

from swin_unet.evaluation.output import print_table, write_metrics
from swin_unet.evaluation.pairs import pair_files
from swin_unet.evaluation.scores import score_volumes, summarize

__all__ = ["pair_files", "print_table", "score_volumes", "summarize", "write_metrics"]
