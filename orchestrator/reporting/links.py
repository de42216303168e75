"""Where MLflow shows what is stored here; the one place that knows how its pages are addressed."""


def run_page(mlflow_ui: str | None, experiment: str | None, run: str | None) -> str | None:
    """The page of a run; None where there is no run yet, or no MLflow for people to look at. mlflow_ui: its base URL."""
    return f"{mlflow_ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}" if mlflow_ui and experiment and run else None
