# The serving image: `glm convert` as init container, `glm serve` as main container.
#
#   docker build --file docker/server.Dockerfile --build-arg BACKEND=cpu --tag glm-server .
#
# BACKEND=cuda compiles the GPU kernels too. Layers go from what changes least to what changes most:
# torch and CUDA (2.6 GB), other packages, our own code, so that a change of code moves a few megabytes.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy
COPY requirements.lock /src/
RUN python -m pip install --quiet --no-cache-dir --root-user-action=ignore --constraint /src/requirements.lock uv \
 && python -m venv --without-pip /opt/glm
COPY pyproject.toml docker/server-excludes.txt docker/prune.py /src/
# One step, so that no layer holds the 2 GB that are pruned; what is left must still load a checkpoint.
RUN uv pip install --quiet --python /opt/glm/bin/python --compile-bytecode --constraint /src/requirements.lock \
      --excludes /src/server-excludes.txt --requirement /src/pyproject.toml \
 && cd /opt/glm/lib/python3.11/site-packages && python /src/prune.py . \
 && /opt/glm/bin/python -W error /src/prune.py --check \
 && mkdir -p /torch/lib/python3.11/site-packages && mv torch nvidia /torch/lib/python3.11/site-packages/

FROM packages AS code
ARG BACKEND=cuda
RUN apt-get update -q && apt-get install -qy --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN uv venv --quiet /opt/build \
 && uv pip install --quiet --python /opt/build/bin/python --constraint /src/requirements.lock \
      cmake ninja pybind11 scikit-build-core \
 && if [ "$BACKEND" = cuda ]; then uv pip install --quiet --python /opt/build/bin/python \
      --constraint /src/requirements.lock nvidia-cuda-nvcc nvidia-cuda-cccl nvidia-cublas nvidia-cuda-runtime; fi
COPY CMakeLists.txt README.md LICENSE /src/
COPY csrc /src/csrc
COPY server /src/server
RUN cd /src && export PATH=/opt/build/bin:$PATH && case $BACKEND in cuda) cuda=ON ;; cpu) cuda=OFF ;; *) exit 2 ;; esac \
 && uv build --quiet --wheel --no-build-isolation --python /opt/build/bin/python \
      --config-setting cmake.define.GLM_CUDA=$cuda --out-dir /wheel . \
 && uv pip install --quiet --python /opt/glm/bin/python --no-deps --compile-bytecode --prefix /code /wheel/*.whl

FROM ${BASE}
COPY --from=packages /torch /opt/glm
COPY --from=packages /opt/glm /opt/glm
COPY --from=code /code /opt/glm
COPY docker/sbom.py /tmp/
RUN /opt/glm/bin/python /tmp/sbom.py /usr/share/sbom/glm-server.cdx.json && rm /tmp/sbom.py && /opt/glm/bin/glm --version
# Nothing is written outside mounted volumes and /tmp, so the root file system may be read-only.
ENV PATH=/opt/glm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 5000 9400
ENTRYPOINT ["glm"]
CMD ["--help"]
