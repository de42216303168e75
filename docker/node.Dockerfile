# A node of the Ray cluster: head or worker, with everything that drivers and trials need.
# VARIANT=cpu compiles mmcv's operators for the CPU; VARIANT=cuda those for GPUs too, with the toolkit of CUDA, which must be of the CUDA
# version that torch was built for (torch.version.cuda). A wheel of mmcv in docker/wheels is taken as it is.
ARG PYTHON=python:3.11.14-slim-bookworm
ARG CUDA=nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG VARIANT=cpu

FROM ${PYTHON} AS build
# 1: only the wheels in docker/wheels are installed (docker/wheels.sh)
ARG PIP_NO_INDEX=
# Where torch comes from; PyTorch's index for CPU builds makes the CPU image some GB smaller.
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_FIND_LINKS=/wheels PIP_CONSTRAINT=/build/constraints.txt
RUN python -m venv /opt/retort
ENV PATH=/opt/retort/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/wheels \
    pip install setuptools wheel && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch

# mmcv alone, compiled once for a torch: its layer is kept, and its wheel in the cache.
FROM build AS compiler
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/wheels \
    pip install ninja psutil && { ls /wheels/onedl_mmcv-*.whl 2>/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; }; }

FROM compiler AS mmcv-cpu
ARG JOBS=4
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/wheels \
    MMCV_WITH_OPS=1 FORCE_CUDA=0 MAX_JOBS=$JOBS pip wheel --no-build-isolation --no-deps --wheel-dir /mmcv "$(grep '^onedl-mmcv==' constraints.txt)"

FROM ${CUDA} AS toolkit

FROM compiler AS mmcv-cuda
ARG JOBS=4
# The architectures to compile for: A100, RTX 30, L4/RTX 40, H100/H200 and what runs their code.
ARG TORCH_CUDA_ARCH_LIST="8.0 8.6 8.9 9.0+PTX"
COPY --from=toolkit /usr/local/cuda/ /usr/local/cuda/
# pip's cache is left out: a wheel from a build without CUDA looks the same.
RUN --mount=type=bind,source=docker/wheels,target=/wheels \
    MMCV_WITH_OPS=1 FORCE_CUDA=1 CUDA_HOME=/usr/local/cuda MAX_JOBS=$JOBS pip wheel --no-cache-dir --no-build-isolation --no-deps \
    --no-binary onedl-mmcv --wheel-dir /mmcv "$(grep '^onedl-mmcv==' constraints.txt)"

FROM mmcv-${VARIANT} AS mmcv

FROM build AS installed
COPY pyproject.toml README.md ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/wheels \
    --mount=type=bind,from=mmcv,source=/mmcv,target=/mmcv \
    pip install --no-build-isolation --find-links /mmcv '.[workers,driver,postgres,s3]' \
    # Both packages of OpenCV bring the same cv2; this one needs no screen's libraries.
    && pip uninstall --yes opencv-python opencv-python-headless && pip install --no-deps opencv-python-headless \
    && python -c 'import cv2, mmcv.ops'

# The code in a layer of its own: what it stands on stays when it changes.
FROM build AS code
COPY pyproject.toml README.md ./
COPY studies studies
COPY workers workers
COPY orchestrator orchestrator
COPY api api
COPY retort retort
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /code .

FROM ${PYTHON}
RUN useradd --uid 10001 --create-home retort && install -d -o retort -g retort /var/lib/retort
COPY --from=installed /opt/retort /opt/retort
RUN --mount=type=bind,from=code,source=/code,target=/code \
    /opt/retort/bin/pip install --no-index --no-deps --no-cache-dir --force-reinstall /code/*.whl
COPY docker/answers.py /opt/retort/answers.py
COPY docker/node.sh /usr/local/bin/node
# KubeRay starts `ray` in a login shell, whose PATH is Debian's.
RUN ln -s /opt/retort/bin/ray /usr/local/bin/ray
# NVIDIA_*: what NVIDIA's container runtime lets in, where it is used.
ENV PATH=/opt/retort/bin:$PATH PYTHONUNBUFFERED=1 RETORT_HOME=/var/lib/retort OMP_NUM_THREADS=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0 RAY_AUTH_MODE=token RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=60 DO_NOT_TRACK=true
USER retort
WORKDIR /var/lib/retort
EXPOSE 6379 8265 10001
CMD ["node", "worker"]
