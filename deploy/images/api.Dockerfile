# The API service. Build it from the root of the repository:
#   docker build -f deploy/images/api.Dockerfile -t tailrace/api:0.3.0 .
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.8
COPY . /src
RUN python3 /src/deploy/images/install.py api /app

FROM python:3.11-slim-bookworm
COPY --from=build /app /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TAILRACE_HOST=0.0.0.0
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python3", "-m", "tailrace_api"]
