# Start everything on this machine: NATS, API, worker.
up *args:
    uv run tailrace up {{args}}

# Run all tests in parallel. Tests of one file share its servers, so they stay in one process.
test *args:
    uv run pytest -n auto --dist loadfile {{args}}

# Run the tests of engine, broker, stores, services and streams on three NATS nodes.
test-cluster *args:
    uv run pytest -n auto --dist loadfile --nats-nodes 3 tests/conformance/broker tests/integration/api tests/integration/broker tests/integration/engine tests/integration/shared tests/integration/streams tests/integration/worker tests/e2e/streams {{args}}

# Run the tests of the retention with one of 20 seconds instead of 4; takes about five minutes.
test-retention *args:
    uv run pytest --retention-s 20 --timeout 900 tests/e2e/retention {{args}}

# Run the tests that need a Kubernetes cluster, which starts on this machine. As root, with the Debian packages containerd,
# runc, containernetworking-plugins, conntrack, iptables and mmdebstrap, and Go 1.24 or newer. The first time Kubernetes is built.
test-kubernetes *args:
    python3 -m tools.kubernetes_tools && uv run pytest -n 0 --kubernetes {{args}} tests/e2e/kubernetes

# Run those without the deliberate mistakes; where a program is missing, fail if CI is set.
test-kubernetes-short *args:
    python3 -m tools.kubernetes_tools && uv run pytest -n 0 --kubernetes --deselect 'tests/e2e/kubernetes/test_changes_lose_nothing.py::test_rollouts_lose_nothing' {{args}} tests/e2e/kubernetes/test_dry_run.py tests/e2e/kubernetes/test_changes_lose_nothing.py tests/e2e/kubernetes/test_runbooks.py tests/e2e/kubernetes/test_autoscaling.py tests/e2e/kubernetes/test_restore.py tests/e2e/kubernetes/test_previous_release.py

# Lint, format, types, import rules, writing rules, and the web packages.
check:
    uv run ruff check && uv run ruff format --check && uv run mypy && uv run lint-imports && uv run python -m tools.writing_rules && uv run python -m tools.web_packages

# Run the benchmarks.
bench *args:
    uv run tailrace bench {{args}}

# Format the code; regenerate the configuration page, the schema of the chart's values, alerts, dashboards and the types of the web client.
fmt:
    uv run ruff format && uv run ruff check --fix && uv run python -m tailrace_shared.process.configuration_page > docs/configuration.md && uv run python -m tools.chart_schema && uv run python -m tools.observability && uv run python -m tools.typescript
