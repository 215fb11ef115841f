# The tracking server: MLflow with psycopg 3 (postgresql+psycopg://...) and S3.
#   mlflow server --host 0.0.0.0 --port 5000 --allowed-hosts ... --backend-store-uri ...
# Any image will do that has python3 (3.11 or newer), its venv and pip, and Debian's useradd.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

# What the extras ask for and nothing else of pyproject.toml: a linter's new version rebuilds nothing.
FROM ${PYTHON_IMAGE} AS requirements
WORKDIR /source
COPY docker/requirements.py pyproject.toml ./
RUN python3 requirements.py tracking > requirements.txt

FROM ${PYTHON_IMAGE} AS dependencies
# Where packages are is the builder's to say: by these where that is no secret (an image remembers
# them), else by pip.conf, which no layer keeps.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
WORKDIR /source
COPY constraints.txt ./
COPY --from=requirements /source/requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/root/.config/pip/pip.conf \
    python3 -m venv --without-pip /opt/bearloop \
    && python3 -m pip --python /opt/bearloop/bin/python install --progress-bar off \
       --no-warn-script-location --only-binary :all: -r requirements.txt -c constraints.txt

# On the layer of dependencies itself: a copy of it would double what builders keep.
FROM dependencies
# The user needs a name (getpass asks for one); what installs packages has no work here any more.
RUN groupadd --gid 10001 bearloop \
    && useradd --uid 10001 --gid 10001 --home-dir /scratch --no-create-home --no-log-init \
       --shell /usr/sbin/nologin bearloop \
    && install --directory --owner 10001 --group 10001 /scratch \
    && rm -rf /usr/local/lib/python3*/site-packages/pip /usr/local/lib/python3*/site-packages/pip-*
# Only /scratch can be written to; nothing that lies there is taken for a module (SAFEPATH).
# MLflow tells nobody that it is used, and looks for no git.
# Its job execution is off: eight more processes (860 MB) that nothing here asks for.
ENV PATH=/opt/bearloop/bin:$PATH \
    HOME=/scratch \
    TMPDIR=/scratch \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    OPENBLAS_NUM_THREADS=1 \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
WORKDIR /scratch
USER 10001:10001
EXPOSE 5000
ENTRYPOINT ["mlflow"]
CMD ["server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="bearloop-mlflow" \
      org.opencontainers.image.description="MLflow's tracking server with PostgreSQL and S3" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
