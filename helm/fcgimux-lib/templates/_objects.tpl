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
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "fcgimux.labels" . | nindent 4 }}
  {{- with $v.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/* Only for EndpointSlices, only in the namespaces of php-fpm's Services. */}}
{{- define "fcgimux.rbac" -}}
{{- if (include "fcgimux.values" . | fromJson).rbac.create -}}
{{- range include "fcgimux.watched" . | fromJsonArray -}}
{{- include "fcgimux.rbac.of" (dict "root" $ "namespace" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fcgimux.rbac.of" -}}
{{- $name := printf "%s-endpoints" (include "fcgimux.fullname" .root) }}
{{- /* In the namespace of others a release of the same name from a third one may be there as well. */}}
{{- if ne .namespace .root.Release.Namespace }}{{ $name = printf "%s-%s" .root.Release.Namespace $name }}{{ end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name | quote }}
  namespace: {{ .namespace | quote }}
  labels:
    {{- include "fcgimux.labels" .root | nindent 4 }}
rules:
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name | quote }}
  namespace: {{ .namespace | quote }}
  labels:
    {{- include "fcgimux.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "fcgimux.serviceAccountName" .root }}
    namespace: {{ .root.Release.Namespace | quote }}
{{- end -}}
