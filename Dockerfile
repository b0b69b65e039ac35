# One image for the servers and the worker of compose.yaml: the versions of constraints.txt.
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY vae_anomaly vae_anomaly
COPY pipelines pipelines
# a build of torch for processors alone is far smaller: --build-arg PIP_EXTRA_INDEX_URL=… of its index
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir $(grep '^torch==' constraints.txt) \
 && pip install --no-cache-dir -c constraints.txt '.[stack,s3,sql,excel]'
RUN useradd --create-home vae && mkdir /artifacts && chown vae /artifacts
USER vae
