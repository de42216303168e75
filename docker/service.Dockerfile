# The service, the orchestrator and the `retort` command: one image, without torch and without Ray.
# Built by docker-compose.yml or docker/build.sh, from the repository's root as context.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
# 1: only the wheels in docker/wheels are installed (docker/wheels.sh)
ARG PIP_NO_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_FIND_LINKS=/wheels PIP_CONSTRAINT=/build/constraints.txt
RUN python -m venv /opt/retort
ENV PATH=/opt/retort/bin:$PATH
WORKDIR /build
# What it stands on first: that layer stays as long as these files do.
COPY pyproject.toml constraints.txt README.md ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/wheels \
    pip install setuptools wheel && pip install --no-build-isolation '.[api,orchestrator,postgres,s3]'

# The code in a layer of its own: what it stands on stays when it changes.
FROM build AS code
COPY studies studies
COPY workers workers
COPY orchestrator orchestrator
COPY api api
COPY retort retort
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /code .

FROM ${PYTHON}
# One user in all images: they share the state folder.
RUN useradd --uid 10001 --create-home retort && install -d -o retort -g retort /var/lib/retort
COPY --from=build /opt/retort /opt/retort
RUN --mount=type=bind,from=code,source=/code,target=/code \
    /opt/retort/bin/pip install --no-index --no-deps --no-cache-dir --force-reinstall /code/*.whl
COPY docker/answers.py /opt/retort/answers.py
ENV PATH=/opt/retort/bin:$PATH PYTHONUNBUFFERED=1 RETORT_HOME=/var/lib/retort DO_NOT_TRACK=true
USER retort
WORKDIR /var/lib/retort
EXPOSE 8080
CMD ["uvicorn", "--factory", "api.app:create_app", "--host", "0.0.0.0", "--port", "8080", "--no-access-log", "--timeout-graceful-shutdown", "2"]
