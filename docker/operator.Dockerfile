# The operator's image: pure Python, `glmctl run` by default.
#
#   docker build --file docker/operator.Dockerfile --tag glm-operator .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy
COPY docker/tools.lock /src/
RUN python -m pip install --quiet --no-cache-dir --root-user-action=ignore --require-hashes --requirement /src/tools.lock \
 && python -m venv --without-pip /opt/glm
COPY docker/operator.lock /src/
RUN uv pip install --quiet --python /opt/glm/bin/python --compile-bytecode --no-deps --require-hashes \
      --requirement /src/operator.lock

FROM packages AS code
COPY operator /src/
RUN cd /src && uv build --quiet --wheel --no-build-isolation --out-dir /wheel . \
 && uv pip install --quiet --python /opt/glm/bin/python --no-deps --compile-bytecode --prefix /code /wheel/*.whl

FROM ${BASE}
COPY --from=packages /opt/glm /opt/glm
COPY --from=code /code /opt/glm
COPY docker/sbom.py /tmp/
RUN /opt/glm/bin/python /tmp/sbom.py /usr/share/sbom/glm-operator.cdx.json && rm /tmp/sbom.py
ENV PATH=/opt/glm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 9400
ENTRYPOINT ["glmctl"]
CMD ["run"]
