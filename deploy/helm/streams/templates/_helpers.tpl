{{- define "streams.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "streams.labels" -}}
app.kubernetes.io/name: streams
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "streams.selector" -}}
app.kubernetes.io/name: streams
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "streams.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "streams.env" -}}
{{- if .root.Values.redis.urlFile }}
- { name: STREAMS_URL_FILE, value: /redis/url }
{{- else }}
- name: STREAMS_URL
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: url } }
{{- end }}
- { name: STREAMS_NAMESPACE, value: {{ .root.Values.namespace | quote }} }
- { name: STREAMS_LOG, value: {{ .root.Values.log | quote }} }
{{- with .root.Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streams.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "streams.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "streams.volumes" -}}
- { name: tmp, emptyDir: {} }
{{- if .Values.redis.tlsSecret }}
- { name: tls, secret: { secretName: {{ .Values.redis.tlsSecret }}, defaultMode: 0440 } }
{{- end }}
{{- end -}}

{{- define "streams.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .Values.redis.tlsSecret }}
- { name: tls, mountPath: /tls, readOnly: true }
{{- end }}
{{- end -}}

{{/* A mounted Secret is replaced in place, so a password that changes needs no new pod. Nothing else runs in the pod. */}}
{{- define "streams.urlVolume" -}}
{{- if .root.Values.redis.urlFile -}}
- { name: url, secret: { secretName: {{ .secret }}, items: [{ key: url, path: url }], defaultMode: 0444 } }
{{- end -}}
{{- end -}}

{{- define "streams.urlMount" -}}
{{- if .Values.redis.urlFile -}}
- { name: url, mountPath: /redis, readOnly: true }
{{- end -}}
{{- end -}}

{{- define "streams.spread" -}}
{{- if .root.Values.topologySpread.enabled }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ .root.Values.topologySpread.key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: {{ include "streams.selector" . | fromYaml | toJson }} }
{{- end }}
{{- end -}}
