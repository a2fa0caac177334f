{{- define "fcgimux.app.phpService" -}}
{{- if .Values.php.enabled -}}{{- printf "%s-php" (include "fcgimux.fullname" .) -}}{{- end -}}
{{- end -}}

{{- define "fcgimux.app.webSelector" -}}
app.kubernetes.io/name: fcgimux
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: web
{{- end -}}

{{- define "fcgimux.app.phpSelector" -}}
app.kubernetes.io/name: fcgimux
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: php
{{- end -}}

{{/* Labels of an object, by `dict "root" . "component" NAME`. */}}
{{- define "fcgimux.app.metadata" -}}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "fcgimux.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
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
