# One image for every role: `shadow` with what a fleet needs. The demo's models are trained in it too, hence the extra.
FROM python:3.12-slim-bookworm
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY harness harness
COPY analysis analysis
RUN pip install --no-cache-dir --constraint constraints.txt '.[demo,metrics,parquet]' \
 && useradd --system --create-home shadow && mkdir /data && chown shadow /data
USER shadow
VOLUME /data
ENTRYPOINT ["shadow"]
