{{/* Contradictions that the schema cannot see. Each message names the value and the fix. */}}
{{- define "tailrace.validate" -}}
{{- $v := .Values -}}
{{- $computed := list "TAILRACE_HOST" "TAILRACE_PORT" "TAILRACE_PROCESSES" "TAILRACE_INTERNAL_HOST" "TAILRACE_INTERNAL_PORT" "TAILRACE_METRICS_HOST" "TAILRACE_METRICS_PORT" "TAILRACE_DRAIN_DELAY" "TAILRACE_DRAIN_TIMEOUT" "TAILRACE_DRAIN_GRACE" "TAILRACE_NATS_REPLICAS" "TAILRACE_NATS_CREDS_FILE" "TAILRACE_NATS_TOKEN_FILE" "TAILRACE_NATS_CA_FILE" "TAILRACE_NATS_CERT_FILE" "TAILRACE_NATS_KEY_FILE" "TAILRACE_AUTH" "TAILRACE_AUTH_ALGORITHM" "TAILRACE_AUTH_SECRET" "TAILRACE_AUTH_SECRET_FILE" "TAILRACE_AUTH_PUBLIC_KEY" "TAILRACE_AUTH_PUBLIC_KEY_FILE" "TAILRACE_AUTH_JWKS_URL" "TAILRACE_AUTH_ISSUER" "TAILRACE_AUTH_AUDIENCE" "TAILRACE_MAX_TOPIC_BYTES" "TAILRACE_MAX_BACKLOG_BYTES" "TAILRACE_CONTEXT_BYTES" "TAILRACE_WORKER_THREADS" "TAILRACE_NODES" "TAILRACE_SECRETS_DIR" "TAILRACE_SECRETS_TENANTS" "TAILRACE_ALLOW_OPEN_BIND" -}}
{{- $errors := list -}}
{{- $configs := dict "config" $v.config "api.config" $v.api.config "workerDefaults.config" $v.workerDefaults.config -}}
{{- range $name, $pool := $v.workers -}}
{{- $configs = set $configs (printf "workers.%s.config" $name) (dig "config" dict (default dict $pool)) -}}
{{- end -}}
{{- range $place, $config := $configs -}}
{{- range $name, $_ := $config -}}
{{- if has $name $computed -}}
{{- $errors = append $errors (printf "%s: %s is computed by the chart; set the value that it comes from" $place $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled $v.nats.url -}}
{{- $errors = append $errors "nats.url: leave it empty with nats.bundled.enabled, or disable the bundled servers" -}}
{{- end -}}
{{- if and (not $v.nats.bundled.enabled) (not $v.nats.url) -}}
{{- $errors = append $errors "nats.url: set the URL of your NATS, or nats.bundled.enabled=true for a trial" -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled (gt (int $v.nats.replicas) (int $v.nats.bundled.servers)) -}}
{{- $errors = append $errors (printf "nats.replicas: %d replicas need as many servers, and nats.bundled.servers is %d" (int $v.nats.replicas) (int $v.nats.bundled.servers)) -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled $v.nats.credentials.secretName -}}
{{- $errors = append $errors "nats.credentials.secretName: the bundled servers have a token of their own; leave it empty" -}}
{{- end -}}
{{- $users := list -}}
{{- range $v.nats.credentials.users -}}
{{- $users = compact (append $users .) -}}
{{- end -}}
{{- if and $v.nats.bundled.enabled $users -}}
{{- $errors = append $errors "nats.credentials.users: the bundled servers have a token of their own; leave them empty" -}}
{{- end -}}
{{- if and $users (lt (len $users) 3) (not $v.nats.credentials.secretName) -}}
{{- $errors = append $errors "nats.credentials.users: name a Secret for each of api, worker and admin, or a secretName for the others" -}}
{{- end -}}
{{- if and $v.nats.bundled.routes (ne (len $v.nats.bundled.routes) (int $v.nats.bundled.servers)) -}}
{{- $errors = append $errors (printf "nats.bundled.routes: give one route for each of the %d servers" (int $v.nats.bundled.servers)) -}}
{{- end -}}
{{- if and $v.nats.tls.clientCertificate (not $v.nats.tls.secretName) -}}
{{- $errors = append $errors "nats.tls.secretName: required by nats.tls.clientCertificate" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.nats.bundled.enabled) (not $v.networkPolicy.nats) -}}
{{- $errors = append $errors "networkPolicy.nats: list the peers of your NATS, or set networkPolicy.enabled=false" -}}
{{- end -}}
{{- if eq $v.auth.mode "none" -}}
{{- if not $v.auth.allowUnauthenticated -}}
{{- $errors = append $errors "auth.mode: `none` gives every client all tenants; confirm it with auth.allowUnauthenticated=true" -}}
{{- end -}}
{{- if or $v.gateway.enabled $v.ingress.enabled -}}
{{- $errors = append $errors "auth.mode: `none` cannot be combined with gateway.enabled or ingress.enabled" -}}
{{- end -}}
{{- else if and $v.auth.jwksUrl $v.auth.key.secretName -}}
{{- $errors = append $errors "auth.key.secretName: leave it empty with auth.jwksUrl" -}}
{{- else if not (or $v.auth.jwksUrl $v.auth.key.secretName) -}}
{{- $errors = append $errors "auth: set auth.jwksUrl, or auth.key.secretName, so that tokens can be checked" -}}
{{- else if and $v.auth.jwksUrl (eq $v.auth.algorithm "HS256") -}}
{{- $errors = append $errors "auth.algorithm: a key set has public keys; use RS256, ES256 or EdDSA with auth.jwksUrl" -}}
{{- end -}}
{{- if and $v.auth.jwksUrl (not (hasPrefix "https://" $v.auth.jwksUrl)) -}}
{{- $errors = append $errors "auth.jwksUrl: the API fetches keys by https only; otherwise an attacker could replace them" -}}
{{- end -}}
{{- range $name, $url := dict "auth.jwksUrl" $v.auth.jwksUrl "tracing.endpoint" $v.tracing.endpoint -}}
{{- $port := include "tailrace.urlPort" $url | atoi -}}
{{- if or (lt $port 1) (gt $port 65535) -}}
{{- $errors = append $errors (printf "%s: %d is not a port" $name $port) -}}
{{- end -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled $v.tracing.endpoint (not $v.networkPolicy.tracing) -}}
{{- $errors = append $errors "networkPolicy.tracing: list the peers of your collector, or set networkPolicy.enabled=false" -}}
{{- end -}}
{{- if and $v.tracing.headers.secretName (not $v.tracing.endpoint) -}}
{{- $errors = append $errors "tracing.endpoint: required by tracing.headers.secretName" -}}
{{- end -}}
{{- $budget := add $v.api.budgets.topicMiB $v.api.budgets.backlogMiB $v.api.budgets.contextMiB 256 -}}
{{- if lt (int $v.api.memoryMiB) (int $budget) -}}
{{- $errors = append $errors (printf "api.memoryMiB: the budgets and the process need %d MiB, and the limit is %d" $budget (int $v.api.memoryMiB)) -}}
{{- end -}}
{{- if and $v.api.autoscaling.enabled (gt (int $v.api.autoscaling.minReplicas) (int $v.api.autoscaling.maxReplicas)) -}}
{{- $errors = append $errors "api.autoscaling.minReplicas: must not exceed maxReplicas" -}}
{{- end -}}
{{- if and $v.api.autoscaling.enabled (not (int $v.api.autoscaling.cpuPercent)) (not (int $v.api.autoscaling.streamsPerPod)) -}}
{{- $errors = append $errors "api.autoscaling: set cpuPercent or streamsPerPod" -}}
{{- end -}}
{{- $least := ternary $v.api.autoscaling.minReplicas $v.api.replicas $v.api.autoscaling.enabled -}}
{{- if and $v.podDisruptionBudget.enabled (lt (int $least) 2) -}}
{{- $errors = append $errors "podDisruptionBudget.enabled: with one API replica it would forbid every eviction; run two replicas or disable it" -}}
{{- end -}}
{{- range $name, $values := $v.workers -}}
{{- $pool := mergeOverwrite (deepCopy $v.workerDefaults) (default dict $values) -}}
{{- if and $pool.autoscaling.enabled (gt (int $pool.autoscaling.minReplicas) (int $pool.autoscaling.maxReplicas)) -}}
{{- $errors = append $errors (printf "workers.%s.autoscaling.minReplicas: must not exceed maxReplicas" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.backup.enabled (or (not $v.backup.recipient) (not $v.backup.claimName)) -}}
{{- $errors = append $errors "backup: set backup.recipient (a public key of age-keygen) and backup.claimName" -}}
{{- end -}}
{{- if and $v.restore.file (or (not $v.backup.claimName) (not $v.restore.identity.secretName)) -}}
{{- $errors = append $errors "restore.file: needs backup.claimName and restore.identity.secretName" -}}
{{- end -}}
{{- if and $v.gateway.enabled (not $v.gateway.parentRefs) -}}
{{- $errors = append $errors "gateway.parentRefs: name the Gateway of the route" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- $errors = append $errors "ingress.host: required by ingress.enabled" -}}
{{- end -}}
{{- if $errors -}}
{{- fail (printf "\n  %s" (join "\n  " $errors)) -}}
{{- end -}}
{{- end -}}
