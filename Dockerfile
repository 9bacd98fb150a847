# The command synpre in an image; the folder /data is the reader's.
#
#   docker build -t synpre --build-arg TORCH_INDEX=ADDRESS .      ADDRESS: PyTorch's index of CPU builds
#   docker build -t synpre --build-arg BASE=IMAGE .               IMAGE: CUDA and Python 3.11 or newer
#   docker run --rm -v "$PWD:/data" synpre pretrain set --output_dir runs/set       (CUDA: --gpus all)
#
# Without TORCH_INDEX torch comes from the default index, whose Linux build brings CUDA's libraries. A
# base that has a torch of its own, as pytorch/pytorch does, keeps it where its version is the pinned one.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG TORCH_INDEX=""

# A virtual environment in which the packages of the base are visible.
RUN python3 -m venv --system-site-packages /opt/synpre
ENV PATH=/opt/synpre/bin:$PATH

WORKDIR /src
COPY constraints.txt setup.py pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch
COPY hf_synpre hf_synpre
RUN pip install --no-cache-dir -c constraints.txt . && rm -rf /src/*

RUN useradd --create-home --uid 10001 synpre
USER 10001
WORKDIR /data
ENTRYPOINT ["synpre"]
CMD ["--help"]
