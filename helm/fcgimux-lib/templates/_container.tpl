{{/*
The container, by `dict "root" . "v" VALUES "args" LIST "mounts" LIST`. The one description of it: charts take it through
fcgimux.container, the injector of the chart fcgimux turns it into an expression.
*/}}
{{- define "fcgimux.container.of" -}}
{{- $v := .v -}}
name: fcgimux
image: {{ include "fcgimux.image" (dict "root" .root "image" $v.image) | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
{{- if $v.nativeSidecar }}
{{- if semverCompare "<1.29.0-0" .root.Capabilities.KubeVersion.Version -}}
{{- fail (printf "nativeSidecar: this cluster (%s) knows none, and its pods would never start: set it to false" .root.Capabilities.KubeVersion.Version) -}}
{{- end }}
restartPolicy: Always
{{- end }}
args:
  {{- toYaml .args | nindent 2 }}
{{- with $v.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: fcgimux-metrics
    containerPort: {{ $v.metrics.port | int64 }}
    protocol: TCP
{{- with $v.probes.startup }}
startupProbe:
  httpGet: {path: /readyz, port: fcgimux-metrics}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.probes.liveness }}
livenessProbe:
  httpGet: {path: /livez, port: fcgimux-metrics}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.probes.readiness }}
readinessProbe:
  httpGet: {path: /readyz, port: fcgimux-metrics}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- toYaml .mounts | nindent 2 }}
{{- end -}}

{{/* Where the container's volumes go; the injector uses the same. */}}
{{- define "fcgimux.mounts" -}}
{{- $v := .v -}}
- {name: fcgimux-run, mountPath: {{ dir $v.listen.path | quote }}}
- {name: fcgimux-tmp, mountPath: /tmp}
{{- end -}}

{{- define "fcgimux.container" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $mounts := include "fcgimux.mounts" (dict "v" $v) | fromYamlArray -}}
{{- $mounts = append $mounts (dict "name" "fcgimux-config" "mountPath" "/etc/fcgimux" "readOnly" true) -}}
{{- if include "fcgimux.watched" . | fromJsonArray -}}
{{- $mounts = append $mounts (dict "name" "fcgimux-token" "mountPath" "/var/run/secrets/kubernetes.io/serviceaccount" "readOnly" true) -}}
{{- end -}}
{{- range $v.extraArgs -}}
{{- $flag := splitList "=" . | first -}}
{{- if has $flag (list "--upstream" "--listen" "--socket-mode" "--socket-group" "--per-endpoint" "--threads" "--admin" "--log-level" "--log-format" "--access-log" "--zone") -}}
{{- fail (printf "extraArgs: %s: the program takes it only in place of the configuration's file: set it in config" $flag) -}}
{{- end -}}
{{- end -}}
{{- $args := concat (list "--config" "/etc/fcgimux/fcgimux.yaml") $v.extraArgs -}}
{{- include "fcgimux.container.of" (dict "root" . "v" $v "args" $args "mounts" $mounts) -}}
{{- end -}}

{{/* An item for the pod's initContainers; nothing with `nativeSidecar: false`. */}}
{{- define "fcgimux.initContainers" -}}
{{- if (include "fcgimux.values" . | fromJson).nativeSidecar -}}
- {{ include "fcgimux.container" . | nindent 2 | trim }}
{{- end -}}
{{- end -}}

{{/* An item for the pod's containers; nothing with `nativeSidecar: true`. */}}
{{- define "fcgimux.containers" -}}
{{- if not (include "fcgimux.values" . | fromJson).nativeSidecar -}}
- {{ include "fcgimux.container" . | nindent 2 | trim }}
{{- end -}}
{{- end -}}

{{/* The mount of the web server's container. Connecting needs no right to write in the folder. */}}
{{- define "fcgimux.volumeMount" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
- name: fcgimux-run
  mountPath: {{ dir $v.listen.path | quote }}
  readOnly: true
{{- end -}}

{{- define "fcgimux.volumes.of" -}}
- name: fcgimux-run
  emptyDir:
    {{- with .v.runVolume.medium }}
    medium: {{ . }}
    {{- end }}
    sizeLimit: {{ .v.runVolume.sizeLimit | quote }}
- name: fcgimux-tmp
  emptyDir:
    {{- with .v.tmpVolume.medium }}
    medium: {{ . }}
    {{- end }}
    sizeLimit: {{ .v.tmpVolume.sizeLimit | quote }}
{{- end -}}

{{- define "fcgimux.volumes" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{ include "fcgimux.volumes.of" (dict "v" $v) }}
- name: fcgimux-config
  configMap:
    name: {{ include "fcgimux.fullname" . | quote }}
{{- if include "fcgimux.watched" . | fromJsonArray }}
# The token is for this container alone: the pod sets automountServiceAccountToken: false.
- name: fcgimux-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
{{- end -}}
