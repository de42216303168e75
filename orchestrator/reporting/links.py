"""Where MLflow shows what is stored here; the one place that knows how its pages are addressed."""

VIEW = "retort"  # key of the prepared view that the relay writes to every experiment
MODELS = "workflowType=machine_learning"  # MLflow's pages are for language models otherwise


def run_page(mlflow_ui: str | None, experiment: str | None, run: str | None) -> str | None:
    """The page of a run; None where there is no run yet, or no MLflow for people to look at. mlflow_ui: its base URL."""
    return f"{mlflow_ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}?{MODELS}" if mlflow_ui and experiment and run else None


def experiment_page(mlflow_ui: str, experiment: str, charts: bool = False) -> str:
    """All runs of an experiment in the prepared view, as a table or as charts. mlflow_ui: MLflow's base URL."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"{mlflow_ui.rstrip('/')}/#/experiments/{experiment}/runs?{MODELS}&viewStateShareKey={VIEW}{mode}"
