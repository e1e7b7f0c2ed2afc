# The image of a cluster node: the pinned dependencies, and lossatlas itself.
#   docker build -t lossatlas .                                              CPU
#   docker build -t lossatlas --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN useradd --create-home atlas
WORKDIR /opt/lossatlas
COPY pyproject.toml constraints.txt README.md ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt torch
COPY pipeline pipeline
COPY renders renders
COPY cluster cluster
RUN pip install --no-cache-dir -c constraints.txt .
USER atlas
WORKDIR /home/atlas
ENTRYPOINT ["lossatlas"]
