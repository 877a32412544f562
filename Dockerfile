# syntax=docker/dockerfile:1
# The broker in an image: no shell is needed to start it, no root, no writable file system but
# /var/lib/token-broker (and /tmp).
#
#   docker build --tag dataverse-token-broker .
#   docker run --read-only --tmpfs /tmp --publish 8080:8080 --volume broker:/var/lib/token-broker \
#     --volume "$PWD/broker.yaml:/etc/token-broker/broker.yaml:ro" dataverse-token-broker

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ------------------------------------------------------------------------ build
FROM ${PYTHON_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /build

# The environment has no pip of its own: nothing can be installed in what runs. Requirements
# before the code, so that a change of code does not fetch them again.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/broker \
    && python -m pip --python /opt/broker/bin/python install \
        --require-hashes --requirement requirements/runtime.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/python -m pip install \
        --require-hashes --requirement requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN /opt/build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation \
        --wheel-dir /dist . \
    && python -m pip --python /opt/broker/bin/python install --no-index --no-deps /dist/*.whl

# -------------------------------------------------------------------------- run
FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="dataverse-token-broker" \
      org.opencontainers.image.description="The one service that holds the app registrations for Microsoft Dataverse" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

COPY --from=build /opt/broker /opt/broker

# A number, so that Kubernetes can see that it is not root; the volume takes its owner from here.
RUN install --directory --owner 65532 --group 65532 --mode 0700 /var/lib/token-broker \
    && install --directory /etc/token-broker
USER 65532:65532
WORKDIR /var/lib/token-broker
VOLUME /var/lib/token-broker

ENV PATH=/opt/broker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BROKER_CONFIG=/etc/token-broker \
    BROKER_HOST=0.0.0.0 \
    BROKER_STATE_DIR=/var/lib/token-broker \
    BROKER_AUDIT_URL=sqlite:////var/lib/token-broker/audit.db

EXPOSE 8080

# For who runs it by hand; Kubernetes has its own probes. Alive, not ready: a broker that cannot
# reach Dataverse is not mended by a restart.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s CMD [ \
    "python", "-c", \
    "import os, ssl, urllib.request as r; e = os.environ.get; s = 'https' if e('BROKER_TLS_CERT_FILE') else 'http'; r.urlopen(f\"{s}://127.0.0.1:{e('BROKER_PORT', '8080')}/livez\", timeout=4, context=ssl._create_unverified_context())" \
    ]

ENTRYPOINT ["token-broker"]
CMD ["serve"]
