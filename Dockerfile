# syntax=docker/dockerfile:1
ARG PYTHON_VERSION=3.13
# For builds that can be repeated: --build-arg PYTHON_DIGEST=@sha256:… (docker buildx imagetools inspect tells it).
ARG PYTHON_DIGEST=""

# Every dependency comes as a wheel, of the version and with the hash that the lock files name: no compiler is needed.
FROM python:${PYTHON_VERSION}-slim${PYTHON_DIGEST} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-build.lock ./
RUN pip install --require-hashes --requirement requirements-build.lock \
 && python -m venv --without-pip /opt/pycdc \
 && pip --python /opt/pycdc/bin/python install --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/pycdc/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:${PYTHON_VERSION}-slim${PYTHON_DIGEST}
LABEL org.opencontainers.image.title="pycdc" \
      org.opencontainers.image.description="Change Data Capture: Postgres' WAL to Debezium-compatible Avro in Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 pycdc \
 && useradd --system --uid 10001 --gid pycdc --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pycdc \
 && install --directory --owner pycdc --group pycdc --mode 0700 /var/lib/pycdc
COPY --from=build /opt/pycdc /opt/pycdc
ENV PATH=/opt/pycdc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 10001:10001
WORKDIR /var/lib/pycdc
EXPOSE 9464

# Whoever sees it fail may restart the container, so it is red only where a restart helps: /readyz tells more.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os; from urllib.request import urlopen; urlopen('http://127.0.0.1:' + os.environ.get('PYCDC_HTTP_PORT', '9464') + '/livez', timeout=4)"]

# SIGTERM: deliver what was read, store the position, end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["pycdc"]
CMD ["run", "/etc/pycdc/pipeline.yaml"]
