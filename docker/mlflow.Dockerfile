# MLflow's server on PostgreSQL; it keeps the artifacts itself, so that nothing else needs their folder.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
ARG PIP_NO_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_FIND_LINKS=/wheels
RUN python -m venv /opt/mlflow
COPY constraints.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/wheels \
    /opt/mlflow/bin/pip install --constraint /build/constraints.txt mlflow 'psycopg[binary]'

FROM ${PYTHON}
RUN useradd --uid 10001 --create-home mlflow && install -d -o mlflow -g mlflow /var/lib/mlflow
COPY --from=build /opt/mlflow /opt/mlflow
COPY docker/answers.py /opt/mlflow/answers.py
COPY docker/mlflow.sh /usr/local/bin/serve
# Jobs of its LLM features would be three more processes.
ENV PATH=/opt/mlflow/bin:$PATH MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
USER mlflow
WORKDIR /var/lib/mlflow
EXPOSE 5000
CMD ["serve"]
