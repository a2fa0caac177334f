{{/* All objects of the sidecar: one line in a file of its own in your chart's templates. */}}
{{- define "fcgimux.objects" -}}
{{ include "fcgimux.configmap" . }}
---
{{ include "fcgimux.serviceAccount" . }}
---
{{ include "fcgimux.rbac" . }}
{{- end -}}

{{- define "fcgimux.serviceAccount" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- if $v.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "fcgimux.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "fcgimux.labels" . | nindent 4 }}
  {{- with $v.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/* Only for EndpointSlices, only in the namespace of php-fpm's Service. */}}
{{- define "fcgimux.rbac" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- if and $v.rbac.create (include "fcgimux.watches" .) -}}
{{- $namespace := (include "fcgimux.upstream" . | fromJson).namespace -}}
{{- $name := printf "%s-endpoints" (include "fcgimux.fullname" .) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "fcgimux.labels" . | nindent 4 }}
rules:
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "fcgimux.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "fcgimux.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}
{{- end -}}
