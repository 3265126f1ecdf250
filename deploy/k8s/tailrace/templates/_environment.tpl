{{/* Environment of a service, with traces: (list $ settings computed). */}}
{{- define "tailrace.serviceEnv" -}}
{{- $root := index . 0 -}}
{{- $tracing := include "tailrace.tracingEnv" $root | fromYaml -}}
{{- include "tailrace.env" (list $root (index . 1) (merge $tracing (index . 2))) -}}
{{- with $root.Values.tracing }}
{{- if and .endpoint .headers.secretName }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ .headers.secretName | quote }}, key: {{ .headers.secretKey | quote }}}}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Environment of a container: (list $ settings computed), two dicts. A name occurs once: `settings`, those of the
component, win over `config`, and what the chart computes over both.
*/}}
{{- define "tailrace.env" -}}
{{- $root := index . 0 -}}
{{- $env := include "tailrace.defaultEnv" $root | fromYaml -}}
{{- $nats := include "tailrace.natsEnv" $root | fromYaml -}}
{{- range list $root.Values.config (index . 1) $nats (index . 2) -}}
{{- range $name, $value := . -}}
{{- $_ := set $env $name $value -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* Environment of a job. */}}
{{- define "tailrace.jobEnv" -}}
{{- include "tailrace.env" (list . dict dict) -}}
{{- end -}}

{{/* What the chart sets unless `config` does. */}}
{{- define "tailrace.defaultEnv" -}}
{{- if .Values.nats.bundled.enabled -}}
{{- /* JetStream may use 85 % of the claim; the rest of it is for what has no limit of its own. */ -}}
TAILRACE_MAX_STORE_BYTES: {{ div (mul .Values.nats.bundled.storageGiB 1073741824 75) 100 | quote }}
{{- end -}}
{{- end -}}

{{/* The connection to NATS, which services and jobs share. */}}
{{- define "tailrace.natsEnv" -}}
NATS_URL: {{ include "tailrace.natsUrl" . | quote }}
TAILRACE_NATS_REPLICAS: {{ .Values.nats.replicas | quote }}
{{- if .Values.nats.bundled.enabled }}
TAILRACE_NATS_TOKEN_FILE: /etc/tailrace/nats/token
{{- else if include "tailrace.natsSecret" (list . "admin") }}
TAILRACE_NATS_CREDS_FILE: {{ printf "/etc/tailrace/nats/%s" .Values.nats.credentials.secretKey | quote }}
{{- end }}
{{- if .Values.nats.tls.secretName }}
TAILRACE_NATS_CA_FILE: /etc/tailrace/nats-tls/ca.crt
{{- if .Values.nats.tls.clientCertificate }}
TAILRACE_NATS_CERT_FILE: /etc/tailrace/nats-tls/tls.crt
TAILRACE_NATS_KEY_FILE: /etc/tailrace/nats-tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{- define "tailrace.apiEnv" -}}
{{- with .Values.api -}}
TAILRACE_HOST: 0.0.0.0
TAILRACE_PORT: "8080"
TAILRACE_INTERNAL_HOST: 0.0.0.0
TAILRACE_INTERNAL_PORT: "8081"
TAILRACE_DRAIN_DELAY: {{ int64 .drain.delaySeconds }}s
TAILRACE_DRAIN_TIMEOUT: {{ int64 .drain.timeoutSeconds }}s
TAILRACE_MAX_TOPIC_BYTES: {{ mul .budgets.topicMiB 1048576 | quote }}
TAILRACE_MAX_BACKLOG_BYTES: {{ mul .budgets.backlogMiB 1048576 | quote }}
TAILRACE_CONTEXT_BYTES: {{ mul .budgets.contextMiB 1048576 | quote }}
{{- end }}
{{- with .Values.auth }}
TAILRACE_AUTH: {{ .mode | quote }}
{{- if eq .mode "none" }}
TAILRACE_ALLOW_OPEN_BIND: "true"
{{- else }}
TAILRACE_AUTH_ALGORITHM: {{ .algorithm | quote }}
{{- if .jwksUrl }}
TAILRACE_AUTH_JWKS_URL: {{ .jwksUrl | quote }}
{{- else }}
{{ ternary "TAILRACE_AUTH_SECRET_FILE" "TAILRACE_AUTH_PUBLIC_KEY_FILE" (eq .algorithm "HS256") }}: {{ printf "/etc/tailrace/auth/%s" .key.secretKey | quote }}
{{- end }}
{{- with .issuer }}
TAILRACE_AUTH_ISSUER: {{ . | quote }}
{{- end }}
{{- with .audience }}
TAILRACE_AUTH_AUDIENCE: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Of a pool of workers. */}}
{{- define "tailrace.workerEnv" -}}
TAILRACE_METRICS_HOST: 0.0.0.0
TAILRACE_METRICS_PORT: "9100"
TAILRACE_WORKER_THREADS: {{ int64 .threads | quote }}
TAILRACE_DRAIN_GRACE: {{ int64 .drainSeconds }}s
{{- with .nodes }}
TAILRACE_NODES: {{ join "," . | quote }}
{{- end }}
{{- if .secretsFrom }}
TAILRACE_SECRETS_DIR: /etc/tailrace/secrets
TAILRACE_SECRETS_TENANTS: {{ .secretsTenants | quote }}
{{- end }}
{{- end -}}

{{/* Traces, of the API and the workers. */}}
{{- define "tailrace.tracingEnv" -}}
{{- with .Values.tracing -}}
{{- if .endpoint -}}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .endpoint | quote }}
OTEL_TRACES_SAMPLER: parentbased_traceidratio
OTEL_TRACES_SAMPLER_ARG: {{ .ratio | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
