{{/*
YAML to CEL. Each node stands in dyn(), since CEL takes no map or list of mixed types. A map with the one key `$cel` is an
expression itself.
*/}}
{{- define "fcgimux.app.cel" -}}
{{- if kindIs "map" . -}}
{{- if hasKey . "$cel" -}}
{{- index . "$cel" -}}
{{- else -}}
{{- $entries := list -}}
{{- range $key, $value := . -}}
{{- $entries = append $entries (printf "%s: %s" (toJson $key) (include "fcgimux.app.cel" $value)) -}}
{{- end -}}
dyn({ {{- join ", " $entries -}} })
{{- end -}}
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (include "fcgimux.app.cel" .) -}}
{{- end -}}
dyn([{{ join ", " $items }}])
{{- else if kindIs "string" . -}}
dyn({{ toJson . }})
{{- else if kindIs "bool" . -}}
dyn({{ . }})
{{- else -}}
dyn({{ . | int64 }})
{{- end -}}
{{- end -}}

{{/* The library's container as CEL; what hangs on the pod's annotations are variables of the policy. */}}
{{- define "fcgimux.app.injected" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $_ := set $v "nativeSidecar" true -}}
{{- if .Values.injector.image.repository -}}
{{- $_ := set $v "image" (merge (dict "repository" .Values.injector.image.repository "digest" "") $v.image) -}}
{{- end -}}
{{- if .Values.injector.image.tag -}}
{{- $_ := set $v "image" (merge (dict "tag" .Values.injector.image.tag "digest" "") $v.image) -}}
{{- end -}}
{{- $mounts := include "fcgimux.mounts" (dict "v" $v) | fromYamlArray -}}
{{- $container := include "fcgimux.container.of" (dict "root" . "v" $v "args" list "mounts" $mounts) | fromYaml -}}
{{- $_ := set $container "args" (dict "$cel" "variables.args") -}}
{{- $_ := set $container "volumeMounts" (dict "$cel" (printf "%s + variables.configMounts" (include "fcgimux.app.cel" $mounts))) -}}
{{- include "fcgimux.app.cel" $container -}}
{{- end -}}
