"""What a search tried, drawn by Optuna's own library: its history, which factors mattered, slices through them, and the Pareto front."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.figures.style import number
from orchestrator.searching.tried import Outcome, Tried
from studies.presentation import Searched
from studies.spec import Search

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

LEAST = 3  # combinations that came to their end, before there is something to see


def pictures(search: Search, searched: Searched, tried: Sequence[Tried]) -> Mapping[str, Callable[[], Figure]]:
    """The pictures of an arm's search by name, each drawn when it is called."""
    done = [each for each in tried if each.end and each.end.outcome == Outcome.DONE]
    if len(done) < LEAST:
        return {}
    found: dict[str, Callable[[], Figure]] = {}
    begin = f"search-{searched.arm}"
    several = len(search.objective) > 1
    ended = [each for each in tried if each.end]
    for place, objective in enumerate(search.objective):
        name = f"-{objective.metric}" if several else ""
        draw = partial(_drawn, search, ended, searched.title, objective.metric, place if several else None)
        found[f"{begin}-history{name}"] = partial(draw, "plot_optimization_history")
        if _vary(done):
            found[f"{begin}-importance{name}"] = partial(draw, "plot_param_importances")
        found[f"{begin}-slices{name}"] = partial(draw, "plot_slice")
    if 1 < len(search.objective) <= 3:
        found[f"{begin}-pareto"] = partial(_front, search, ended, searched.title)
    return found


def _vary(done: Sequence[Tried]) -> bool:
    """Whether a factor that all have has more than one value: of others nobody can say how much they matter."""
    common = set.intersection(*(set(each.values) for each in done))
    return any(len({str(each.values[name]) for each in done}) > 1 for name in common)


def _drawn(search: Search, tried: Sequence[Tried], title: str, metric: str, place: int | None, plot: str) -> Figure:
    """One of Optuna's plots. place: of the objective, where there are several."""
    import optuna.visualization.matplotlib as plots

    options: dict[str, Any] = {"target_name": metric}
    if place is not None:
        options["target"] = lambda trial: trial.values[place]
    if plot == "plot_param_importances":
        import optuna

        options["evaluator"] = optuna.importance.PedAnovaImportanceEvaluator()
    return _figure(lambda study: getattr(plots, plot)(study, **options), search, tried, title)


def _front(search: Search, tried: Sequence[Tried], title: str) -> Figure:
    import optuna.visualization.matplotlib as plots

    names = [objective.metric for objective in search.objective]
    return _figure(lambda study: plots.plot_pareto_front(study, target_names=names), search, tried, title)


def _figure(plot: Callable[[optuna.Study], Any], search: Search, tried: Sequence[Tried], title: str) -> Figure:
    """What a plot of Optuna's draws on, under the arm's title; its style is not left to other pictures."""
    import matplotlib
    import numpy as np

    from orchestrator.searching.sampling import as_study

    matplotlib.use("Agg", force=False)
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plots are called experimental, and layouts given up for ours
        axes = np.atleast_1d(plot(as_study(search, tried))).ravel()
        figure: Figure = axes[0].figure
        figure.suptitle(title)
        if len(axes) > 1:
            figure.set_size_inches(max(6.0, 3.2 * len(axes)), 4.2)
        for axis in axes:
            if axis.get_xscale() == "log":  # as our pictures print no formulas
                axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
                axis.xaxis.set_minor_formatter(NullFormatter())
        figure.set_layout_engine("constrained")
        pyplot.close(figure)
    return figure
