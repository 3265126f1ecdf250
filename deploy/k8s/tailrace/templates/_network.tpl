{{/* Egress that every component needs: names, and NATS. */}}
{{- define "tailrace.egress" -}}
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- if .Values.nats.bundled.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "tailrace.selector" (list . "nats") | nindent 10 }}
  ports: [{protocol: TCP, port: 4222}]
{{- else }}
- to:
    {{- toYaml .Values.networkPolicy.nats | nindent 4 }}
  ports: [{protocol: TCP, port: {{ .Values.networkPolicy.natsPort }}}]
{{- end }}
{{- end -}}

{{/* Ingress to the internal port. The kubelet's probes are always allowed. */}}
{{- define "tailrace.metricsIngress" -}}
- from:
    {{- if .Values.networkPolicy.monitoring }}
    {{- toYaml .Values.networkPolicy.monitoring | nindent 4 }}
    {{- else }}
    - namespaceSelector: {}
    {{- end }}
  ports: [{protocol: TCP, port: internal}]
{{- end -}}

{{/* Port of a URL: its own, or that of its scheme. */}}
{{- define "tailrace.urlPort" -}}
{{- $authority := regexFind "^https?://[^/?#]*" . -}}
{{- regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end -}}

{{/* Egress of the components that send traces, to the collector. */}}
{{- define "tailrace.tracingEgress" -}}
{{- if .Values.tracing.endpoint }}
- to:
    {{- toYaml .Values.networkPolicy.tracing | nindent 4 }}
  ports: [{protocol: TCP, port: {{ int .Values.networkPolicy.tracingPort | default (include "tailrace.urlPort" .Values.tracing.endpoint | int) }}}]
{{- end }}
{{- end -}}
