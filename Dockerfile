# Serves a run on the CPU: search, embeddings, reranking and the search page. Once built, it needs no network.
#
#   docker build --tag retrieval-distill .
#   docker run --rm --user "$(id -u):$(id -g)" --publish 127.0.0.1:8080:8080 --volume ./runs/demo:/srv/run retrieval-distill
#
# The user has to be one who may write in the run's folder, where BM25's index and people's feedback are kept.
# Two stages: the first has what installing needs, the second only what was installed.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY constraints.txt ./
# torch first, in its build for CPUs, which pip prefers where both are offered: the other brings gigabytes for GPUs
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY retrieval_distill retrieval_distill
RUN pip install --constraint constraints.txt '.[serve,demo]'

FROM python:3.11-slim
RUN useradd --uid 10001 serve && mkdir /srv/run && chown serve /srv/run
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 HOME=/tmp
USER serve
WORKDIR /srv
VOLUME /srv/run
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["retrieval-distill"]
CMD ["serve", "run", "--host", "0.0.0.0", "--port", "8080", "--feedback", "run/feedback.db"]
