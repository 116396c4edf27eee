# Two stages: one with uv that builds the environment, one without a package manager that runs it as nobody.
FROM python:3.13-slim AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/cosell-sync
RUN pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --extra postgresql --extra tracing --no-install-project
COPY src src
COPY config config
RUN uv sync --frozen --no-dev --extra postgresql --extra tracing --no-editable

FROM python:3.13-slim
COPY --from=build /opt/cosell-sync /opt/cosell-sync
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin cosell && install -d -o cosell -g cosell -m 0700 /data
USER 10001
WORKDIR /data
VOLUME /data
ENV PATH=/opt/cosell-sync/bin:$PATH PYTHONUNBUFFERED=1 \
    COSELL_CONFIG=/config/cosell-sync.yaml \
    COSELL_DEFAULT_STORE__URL=sqlite:////data/cosell-sync.db \
    COSELL_DEFAULT_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
# No shell is needed at run time: commands are given as lists.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["cosell-sync", "health", "--alive"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["cosell-sync"]
CMD ["run"]
