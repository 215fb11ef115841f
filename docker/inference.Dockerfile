# The server of one bundle on CPUs: no PyTorch, at most 300 MB of Python packages.
#   python -m inference
# Any image will do that has python3 (3.11 or newer), its venv and pip, and Debian's useradd.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

# What the extras ask for and nothing else of pyproject.toml: a linter's new version rebuilds nothing.
FROM ${PYTHON_IMAGE} AS requirements
WORKDIR /source
COPY docker/requirements.py pyproject.toml ./
RUN python3 requirements.py inference > requirements.txt

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
# It is pulled whenever an endpoint grows: a library that makes it slow to start is found here.
RUN size=$(du --summarize --block-size=1M /opt/bearloop/lib | cut --fields 1) \
    && if [ "$size" -gt 300 ]; then echo "the packages have $size MB, 300 are allowed" && exit 1; fi

FROM ${PYTHON_IMAGE} AS program
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
WORKDIR /source
COPY pyproject.toml README.md ./
COPY bearloop bearloop
COPY inference inference
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/root/.config/pip/pip.conf \
    python3 -m venv --without-pip /opt/bearloop \
    && python3 -m pip --python /opt/bearloop/bin/python install --quiet --no-warn-script-location \
       --no-deps --prefix /program/opt/bearloop .

# On the layer of dependencies itself: a copy of it would double what builders keep.
FROM dependencies
# The user needs a name (getpass asks for one); what installs packages has no work here any more.
RUN groupadd --gid 10001 bearloop \
    && useradd --uid 10001 --gid 10001 --home-dir /scratch --no-create-home --no-log-init \
       --shell /usr/sbin/nologin bearloop \
    && install --directory --owner 10001 --group 10001 /scratch \
    && rm -rf /usr/local/lib/python3*/site-packages/pip /usr/local/lib/python3*/site-packages/pip-*
# Only /scratch can be written to; nothing that lies there is taken for a module (SAFEPATH).
# NumPy works on one picture at a time; ONNX Runtime has threads of its own, from the CPU limit.
ENV PATH=/opt/bearloop/bin:$PATH \
    HOME=/scratch \
    TMPDIR=/scratch \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    OPENBLAS_NUM_THREADS=1
COPY --from=program /program /
WORKDIR /scratch
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m"]
CMD ["inference", "--host", "0.0.0.0", "--port", "8080"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="bearloop-inference" \
      org.opencontainers.image.description="bearloop's CPU server of one model" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
