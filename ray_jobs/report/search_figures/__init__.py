"""The figures of a search's report, one file each.

Optuna draws figures of these kinds, too (`optuna.visualization`). We tried its history and its parallel coordinates
and kept our own, because a report needs what those leave out:

- Optuna draws completed trials only. A trial that a scheduler stopped, or that diverged, has a value and a state here.
- Optuna puts the names of fields and choices into Plotly's markup and hover templates unescaped, where a name from a
  job's file becomes a link. Here every text is escaped and clipped, and no figure has a template.
- Optuna's parallel coordinates of 1000 trials are 327 traces and 228 kB; ours are 4 and 133 kB.
- A report is made from search.json alone: it needs Plotly, and neither Optuna nor the study.
"""
