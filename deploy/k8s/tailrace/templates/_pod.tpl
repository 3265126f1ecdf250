{{/* What all pods have in common. */}}
{{- define "tailrace.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tailrace.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Pods of a component on different zones and nodes, where there are several: (list $ "api"). */}}
{{- define "tailrace.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "tailrace.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* Requests and limits: (dict "cpu" … "memoryMiB" …). The processor has no limit: throttling stalls streams. */}}
{{- define "tailrace.resources" -}}
resources:
  requests: {cpu: {{ .cpu | quote }}, memory: {{ int .memoryMiB }}Mi}
  limits: {memory: {{ int .memoryMiB }}Mi}
{{- end -}}

{{/* Environment of the connection to NATS, which services and jobs share. */}}
{{- define "tailrace.natsEnv" -}}
- {name: NATS_URL, value: {{ include "tailrace.natsUrl" . | quote }}}
- {name: TAILRACE_NATS_REPLICAS, value: {{ .Values.nats.replicas | quote }}}
{{- if .Values.nats.bundled.enabled }}
- {name: TAILRACE_NATS_TOKEN_FILE, value: /etc/tailrace/nats/token}
{{- if not (hasKey .Values.config "TAILRACE_MAX_STORE_BYTES") }}
{{- /* JetStream may use 85 % of the claim; the rest of it is for what has no limit of its own. */}}
- {name: TAILRACE_MAX_STORE_BYTES, value: {{ div (mul .Values.nats.bundled.storageGiB 1073741824 75) 100 | quote }}}
{{- end }}
{{- else if .Values.nats.credentials.secretName }}
- {name: TAILRACE_NATS_CREDS_FILE, value: {{ printf "/etc/tailrace/nats/%s" .Values.nats.credentials.secretKey | quote }}}
{{- end }}
{{- if .Values.nats.tls.secretName }}
- {name: TAILRACE_NATS_CA_FILE, value: /etc/tailrace/nats-tls/ca.crt}
{{- if .Values.nats.tls.clientCertificate }}
- {name: TAILRACE_NATS_CERT_FILE, value: /etc/tailrace/nats-tls/tls.crt}
- {name: TAILRACE_NATS_KEY_FILE, value: /etc/tailrace/nats-tls/tls.key}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.config }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "tailrace.natsMounts" -}}
{{- if or .Values.nats.bundled.enabled .Values.nats.credentials.secretName }}
- {name: nats, mountPath: /etc/tailrace/nats, readOnly: true}
{{- end }}
{{- if .Values.nats.tls.secretName }}
- {name: nats-tls, mountPath: /etc/tailrace/nats-tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "tailrace.natsVolumes" -}}
{{- if .Values.nats.bundled.enabled }}
- name: nats
  secret: {secretName: {{ include "tailrace.name" . }}-nats, defaultMode: 0440}
{{- else if .Values.nats.credentials.secretName }}
- name: nats
  secret: {secretName: {{ .Values.nats.credentials.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- if .Values.nats.tls.secretName }}
- name: nats-tls
  secret: {secretName: {{ .Values.nats.tls.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* Probes of the internal port. Startup lasts as long as NATS may take to become ready. */}}
{{- define "tailrace.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: internal}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: internal}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: internal}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}
