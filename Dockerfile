# Two stages: one with uv that builds the environment, one without a package manager that runs it as nobody.
#
# The base is pinned by version here and by digest in a release: .github/workflows/release.yaml looks the digest of this
# tag up, builds with `--build-arg BASE=python:…@sha256:…`, and writes it into the label org.opencontainers.image.base.digest.
ARG BASE=docker.io/library/python:3.13.15-slim-trixie

FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/cosell-sync
RUN pip install --no-cache-dir --root-user-action=ignore "uv==${UV_VERSION}"
# `strip`, for the debug symbols that some wheels carry.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --extra postgresql --extra tracing --extra workers --no-install-project
COPY src src
COPY config config
COPY deploy/slim.py deploy/slim.py
RUN uv sync --frozen --no-dev --extra postgresql --extra tracing --extra workers --no-editable \
    && /opt/cosell-sync/bin/python deploy/slim.py \
    && find /opt/cosell-sync -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE}
COPY --from=build /opt/cosell-sync /opt/cosell-sync
# The base brings Python's own library without bytecode, so on a read-only root every start and every health check would
# compile it again: what the program imports is compiled here, once.
COPY deploy/load.py /tmp/load.py
RUN /opt/cosell-sync/bin/python /tmp/load.py && rm /tmp/load.py
# Any user id works, as long as its group is 0 (OpenShift gives every project an id of its own) or it owns what is mounted
# at /data. 10001 is what runs where nobody chooses.
RUN useradd --no-log-init --system --uid 10001 --gid 0 --home-dir /data --no-create-home --shell /usr/sbin/nologin cosell \
    && install -d -o 10001 -g 0 -m 0770 /data
USER 10001
WORKDIR /data
VOLUME /data
# Each call has a thread of its own; with one arena for all threads, what an answer took is free for the next one.
ENV PATH=/opt/cosell-sync/bin:$PATH HOME=/data PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=1 \
    COSELL_DEFAULT_CONFIG=/config/cosell-sync.yaml \
    COSELL_DEFAULT_STORE__URL=sqlite:////data/cosell-sync.db \
    COSELL_DEFAULT_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
# No shell is needed at run time: commands are given as lists.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["cosell-sync", "health", "--alive"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["cosell-sync"]
CMD ["run"]

# Last, so that a new commit rebuilds no layer. The release workflow adds source and documentation, which depend on where the
# repository lives.
ARG BASE
ARG BASE_DIGEST=""
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="cosell-sync" \
      org.opencontainers.image.description="Keeps Microsoft Partner Center co-sell referrals and CRM opportunities equal." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
