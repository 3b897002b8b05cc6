{{/* The release's name. One that is no name of a Service, or leaves no room for a role, is made one that no other has. */}}
{{- define "lockgate.name" -}}
{{- if or (contains "." .Release.Name) (gt (len .Release.Name) 40) -}}
{{- printf "%s-%s" (.Release.Name | replace "." "-" | trunc 31 | trimSuffix "-") (.Release.Name | sha256sum | trunc 8) -}}
{{- else -}}
{{- .Release.Name -}}
{{- end -}}
{{- end -}}

{{- define "lockgate.image" -}}
{{- $repository := .Values.image.repository | required "image.repository is empty, and no image is published: build ops/docker/Dockerfile, push it, and name your registry" -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "lockgate.selector" -}}
app.kubernetes.io/name: lockgate
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end -}}

{{- define "lockgate.labels" -}}
{{ include "lockgate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end -}}

{{/* .env as it is, and of .files, which are those of the Secret, variables that point at them. Before them what they may refer to:
whose telemetry it is, named as OpenTelemetry's operator names it. */}}
{{- define "lockgate.env" -}}
- {name: OTEL_RESOURCE_ATTRIBUTES_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: OTEL_RESOURCE_ATTRIBUTES_NAMESPACE_NAME, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- if not (hasKey (.env | default dict) "OTEL_RESOURCE_ATTRIBUTES") }}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: "k8s.pod.name=$(OTEL_RESOURCE_ATTRIBUTES_POD_NAME),k8s.namespace.name=$(OTEL_RESOURCE_ATTRIBUTES_NAMESPACE_NAME)"}
{{- end }}
{{- range $variable, $value := .env }}
{{- if hasKey $.files $variable }}
{{- fail (printf "%s is in env and in secretFiles: which of them is meant?" $variable) }}
{{- end }}
- {name: {{ $variable | quote }}, value: {{ $value | quote }}}
{{- end }}
{{- range $variable, $key := .files }}
- {name: {{ $variable | quote }}, value: {{ printf "/etc/lockgate/secrets/%s" $key | quote }}}
{{- end }}
{{- end -}}

{{- define "lockgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The user of the image. OpenShift's restricted-v2 gives each namespace users of its own and refuses this one: grant the pods'
service account nonroot-v2. */}}
{{- define "lockgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Keys of the Secret as files; .extra are those of the container itself. */}}
{{- define "lockgate.secretVolume" -}}
- name: secrets
  secret:
    secretName: {{ .root.Values.existingSecret | quote }}
    defaultMode: 0440
    items:
      {{- range $variable, $key := merge (dict) (.extra | default dict) .root.Values.secretFiles }}
      - {key: {{ $key | quote }}, path: {{ $key | quote }}}
      {{- end }}
      {{- range $key, $path := .root.Values.certificateFiles }}
      - {key: {{ $key | quote }}, path: {{ $path | quote }}}
      {{- end }}
{{- end -}}

{{/* Where pods may run. */}}
{{- define "lockgate.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
