# The serving image: `glm convert` as init container, `glm serve` as main container.
#
#   docker build --file docker/server.Dockerfile --build-arg BACKEND=cpu --tag glm-server .
#
# BACKEND=cuda is refused where the checkout has no GPU kernels to compile. Layers go from what changes least to what
# changes most: torch and CUDA (2.7 GB), other packages, our own code; a change of code moves a few megabytes.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy
COPY docker/tools.lock /src/
RUN python -m pip install --quiet --no-cache-dir --root-user-action=ignore --require-hashes --requirement /src/tools.lock \
 && python -m venv --without-pip /opt/glm
COPY docker/server.lock docker/prune.py /src/
# One step, so that no layer holds the 2 GB that are pruned; what is left must still load a checkpoint.
RUN uv pip install --quiet --python /opt/glm/bin/python --compile-bytecode --no-deps --require-hashes \
      --requirement /src/server.lock \
 && cd /opt/glm/lib/python3.11/site-packages && python /src/prune.py . \
 && /opt/glm/bin/python -W error /src/prune.py --check \
 && mkdir -p /torch/lib/python3.11/site-packages && mv torch nvidia /torch/lib/python3.11/site-packages/

FROM packages AS code
# A base from Debian's own packages has Python without its headers.
RUN include=$(python -c "import sysconfig; print(sysconfig.get_path('include'))") \
 && apt-get update -q \
 && apt-get install -qy --no-install-recommends g++ $(test -e "$include/Python.h" || echo python3-dev) \
 && rm -rf /var/lib/apt/lists/*
COPY CMakeLists.txt LICENSE README.md pyproject.toml /src/
COPY csrc /src/csrc
COPY server /src/server
ARG BACKEND=cpu
RUN cd /src && case $BACKEND in cpu) cuda=OFF ;; cuda) test -d csrc/cuda && cuda=ON ;; *) false ;; esac \
 || { echo "BACKEND is $BACKEND: give cpu, or cuda where csrc/cuda exists" >&2; exit 2; } \
 && uv build --quiet --wheel --no-build-isolation --out-dir /wheel . \
      --config-setting cmake.define.GLM_CUDA=$cuda \
 && uv pip install --quiet --python /opt/glm/bin/python --no-deps --compile-bytecode --prefix /code /wheel/*.whl

FROM ${BASE}
COPY --from=packages /torch /opt/glm
COPY --from=packages /opt/glm /opt/glm
COPY --from=code /code /opt/glm
COPY docker/sbom.py /tmp/
RUN /opt/glm/bin/python /tmp/sbom.py /usr/share/sbom/glm-server.cdx.json && rm /tmp/sbom.py \
 && /opt/glm/bin/python -c "import glm_engine._core"
# Nothing is written outside mounted volumes and /tmp, so the root file system may be read-only.
ENV PATH=/opt/glm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 5000 9400
ENTRYPOINT ["glm"]
CMD ["--help"]
