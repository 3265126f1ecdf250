# The worker service. Build it from the root of the repository:
#   docker build -f deploy/images/worker.Dockerfile -t tailrace/worker:0.3.0 .
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.8
COPY . /src
RUN python3 /src/deploy/images/install.py worker /app

FROM python:3.11-slim-bookworm
COPY --from=build /app /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python3", "-m", "tailrace_worker"]
