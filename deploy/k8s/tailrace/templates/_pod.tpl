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

{{- define "tailrace.natsMounts" -}}
{{- if or .Values.nats.bundled.enabled (include "tailrace.natsSecret" (list . "admin")) }}
- {name: nats, mountPath: /etc/tailrace/nats, readOnly: true}
{{- end }}
{{- if .Values.nats.tls.secretName }}
- {name: nats-tls, mountPath: /etc/tailrace/nats-tls, readOnly: true}
{{- end }}
{{- end -}}

{{/* The Secret with the NATS user of a role, `api`, `worker` or `admin`: (list $ role). Empty if there is none. */}}
{{- define "tailrace.natsSecret" -}}
{{- with (index . 0).Values.nats.credentials -}}
{{- get (.users | default dict) (index $ 1) | default .secretName -}}
{{- end -}}
{{- end -}}

{{/* The files of the connection to NATS, for a role: (list $ role). */}}
{{- define "tailrace.natsVolumes" -}}
{{- $secret := include "tailrace.natsSecret" . -}}
{{- with index . 0 -}}
{{- if .Values.nats.bundled.enabled }}
- name: nats
  secret: {secretName: {{ include "tailrace.name" . }}-nats, defaultMode: 0440}
{{- else if $secret }}
- name: nats
  secret: {secretName: {{ $secret | quote }}, defaultMode: 0440}
{{- end }}
{{- if .Values.nats.tls.secretName }}
- name: nats-tls
  secret: {secretName: {{ .Values.nats.tls.secretName | quote }}, defaultMode: 0440}
{{- end }}
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
