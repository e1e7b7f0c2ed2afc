# The image of a cluster node, head and worker alike: the pinned dependencies, and lossatlas itself.
#   docker build -t lossatlas:0.1.0 .                                                      CPU
#   docker build -t lossatlas:0.1.0-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# Any index of PyTorch's will do whose CUDA the nodes' drivers run; the version is constraints.txt's.
FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=s3
# `ray up` copies files into a container with rsync; KubeRay's probes ask with wget; torch compiles
# with g++ where a spec says `evaluate: {compile: true}`.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ rsync wget \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home atlas
WORKDIR /opt/lossatlas
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt torch
COPY pipeline pipeline
COPY renders renders
COPY cluster cluster
COPY lossatlas.py ./
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"
# A Ray that is started in here wants a token, and the NVIDIA runtime hands its GPUs in.
ENV RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER atlas
WORKDIR /home/atlas
# No entry point: `ray up` and KubeRay start a shell in here.
CMD ["lossatlas", "--help"]
