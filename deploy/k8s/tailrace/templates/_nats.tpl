{{/* Configuration of the bundled servers. */}}
{{- define "tailrace.natsConfig" -}}
{{- with .Values.nats.bundled -}}
server_name: $POD_NAME
port: 4222
http_port: 8222
max_payload: 8MB
lame_duck_grace_period: 5s
lame_duck_duration: 30s
authorization { token: $NATS_TOKEN }
jetstream {
  store_dir: /data
  max_file_store: {{ div (mul .storageGiB 1024 85) 100 }}MB
  max_memory_store: {{ div .memoryMiB 4 }}MB
  {{- if .syncAlways }}
  sync_interval: always
  {{- end }}
}
{{- if gt (int .servers) 1 }}
cluster {
  name: "{{ include "tailrace.name" $ }}-nats"
  port: 6222
  authorization { user: route, password: $NATS_TOKEN }
  {{- /* A variable is a whole value of this file, so each route is one. */}}
  routes: [
    {{- range until (int .servers) }}
    $ROUTE_{{ . }}
    {{- end }}
  ]
}
{{- end }}
{{- end -}}
{{- end -}}
