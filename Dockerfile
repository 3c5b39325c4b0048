# One image for every service: python -m services.webhook | python -m services.reconciler.operator | nexus-auth migrate.
# `make image` builds it with whichever of docker, buildah or podman is there. BASE_IMAGE: any image with Python 3.11 or
# newer, pip and venv; pin it by digest where you publish (python@sha256:…).
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /app
COPY requirements/build.txt requirements/image.txt requirements/
# The environment has no pip of its own: what runs needs none.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements/image.txt \
    && python -m pip install --no-cache-dir --no-deps --require-hashes --target /opt/build -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY nexus_auth nexus_auth
COPY services services
# Code stays in /app, beside sql/ and crds/, which it reads; the environment points there.
RUN PYTHONPATH=/opt/build python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-build-isolation \
        --no-index --editable . \
    && /opt/venv/bin/python -m compileall -q nexus_auth services \
    && rm -rf build
COPY sql/migrations sql/migrations
COPY crds crds

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="nexus-auth" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Keeps a Postgres database in step with Clerk"
# The user's number stands in no /etc/passwd, and on OpenShift it is another one: libraries that ask for a name find it here.
ENV PATH=/opt/venv/bin:$PATH \
    USER=nexus-auth \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
# Numeric, so that runAsNonRoot can be checked.
USER 10001:10001
CMD ["nexus-auth", "--help"]
