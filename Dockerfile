# syntax=docker/dockerfile:1
ARG PYTHON_VERSION=3.13

# Every dependency comes as a wheel: no compiler is needed, neither here nor below.
FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv --without-pip /opt/pycdc \
 && pip --python /opt/pycdc/bin/python install --no-cache-dir --disable-pip-version-check .

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="pycdc" \
      org.opencontainers.image.description="Change Data Capture: Postgres' WAL to Debezium-compatible Avro in Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 pycdc \
 && useradd --system --uid 10001 --gid pycdc --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pycdc \
 && install --directory --owner pycdc --group pycdc --mode 0700 /var/lib/pycdc
COPY --from=build /opt/pycdc /opt/pycdc
ENV PATH=/opt/pycdc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
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
