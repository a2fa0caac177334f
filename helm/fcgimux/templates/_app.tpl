{{- define "fcgimux.app.phpService" -}}
{{- if .Values.php.enabled -}}{{- printf "%s-php" (include "fcgimux.fullname" .) -}}{{- end -}}
{{- end -}}

{{- define "fcgimux.app.webSelector" -}}
app.kubernetes.io/name: fcgimux
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: web
{{- end -}}

{{- define "fcgimux.app.phpSelector" -}}
app.kubernetes.io/name: fcgimux
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: php
{{- end -}}

{{/* Namespace and labels of an object, by `dict "root" . "component" NAME`, and "labels" for more. */}}
{{- define "fcgimux.app.metadata" -}}
namespace: {{ .root.Release.Namespace | quote }}
{{ include "fcgimux.app.labels" . }}
{{- end -}}

{{- define "fcgimux.app.labels" -}}
labels:
  {{- merge (dict "app.kubernetes.io/component" .component) (include "fcgimux.labels" .root | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- end -}}

{{/* "true" or nothing, by `dict "root" . "enabled" true|false|"auto" "api" "GROUP/VERSION/KIND"`. */}}
{{- define "fcgimux.app.enabled" -}}
{{- if eq (toString .enabled) "auto" -}}
{{- if .root.Capabilities.APIVersions.Has .api -}}true{{- end -}}
{{- else if eq (toString .enabled) "true" -}}true{{- end -}}
{{- end -}}

{{/* Security of a container that is not the sidecar. */}}
{{- define "fcgimux.app.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}
