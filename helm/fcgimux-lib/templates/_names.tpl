{{/*
The sidecar's values as JSON, wherever the calling chart has them: under the alias `fcgimux`, or under this chart's name. What somebody has
deleted (`null`) and may be missing is empty; what may not, the schema asks for.
*/}}
{{- define "fcgimux.values" -}}
{{- $v := get .Values "fcgimux" | default (get .Values "fcgimux-lib") -}}
{{- if not (and (kindIs "map" $v) (hasKey $v "runVolume")) -}}
{{- fail "there are no values of fcgimux-lib here: give the dependency `alias: fcgimux` in Chart.yaml, run `helm dependency update`, put its values below `fcgimux:`, and call its templates with the chart's own context (`$` inside of `with` and `range`)" -}}
{{- end -}}
{{- $empty := dict "config" dict "queue" dict "timeouts" dict "podLabels" dict "podAnnotations" dict "commonLabels" dict -}}
{{- $empty = merge $empty (dict "extraArgs" list "extraEnv" list "imagePullSecrets" list) -}}
{{- $empty = merge $empty (dict "pool" (dict "settings" dict) "upstream" (dict "service" "" "addresses" list "statusPort" 0)) -}}
{{- toJson (merge (deepCopy $v) $empty) -}}
{{- end -}}

{{/* Without dots, which a release's name may have and a Service's may not. */}}
{{- define "fcgimux.fullname" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if $v.fullnameOverride -}}
{{- $v.fullnameOverride -}}
{{- else if contains "fcgimux" $release -}}
{{- $release -}}
{{- else -}}
{{- printf "%s-fcgimux" ($release | trunc 45 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "fcgimux.labels" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $own := dict "app.kubernetes.io/name" "fcgimux" "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml (merge $own $v.commonLabels) -}}
{{- end -}}

{{- define "fcgimux.serviceAccountName" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- tpl ($v.serviceAccount.name | default "") . | default (ternary (include "fcgimux.fullname" .) "default" $v.serviceAccount.create) | quote -}}
{{- end -}}

{{/* Labels of the pods; the PodMonitor of the chart fcgimux looks for them. */}}
{{- define "fcgimux.podLabels" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- toYaml (merge (dict "fcgimux.dev/sidecar" "true") $v.podLabels) -}}
{{- end -}}

{{- define "fcgimux.podAnnotations" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $annotations := merge (dict) $v.podAnnotations (dict "kubectl.kubernetes.io/default-container" (tpl $v.webContainer .)) -}}
{{- if eq $v.reload "restart" -}}
{{- $_ := set $annotations "fcgimux.dev/config-checksum" (include "fcgimux.config" . | sha256sum) -}}
{{- end -}}
{{- toYaml $annotations -}}
{{- end -}}

{{/* What other charts mean by the same keys of `global` is not ours to judge: what has another shape is passed over. */}}
{{- define "fcgimux.imagePullSecrets" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $shared := (.Values.global | default dict).imagePullSecrets -}}
{{- $secrets := list -}}
{{- range concat (ternary $shared list (kindIs "slice" $shared)) $v.imagePullSecrets -}}
{{- if kindIs "string" . -}}
{{- $secrets = append $secrets (dict "name" .) -}}
{{- else if and (kindIs "map" .) (hasKey . "name") -}}
{{- $secrets = append $secrets (pick . "name") -}}
{{- end -}}
{{- end -}}
{{- if $secrets -}}
{{- toYaml (uniq $secrets) -}}
{{- end -}}
{{- end -}}

{{/* An image by `dict "root" . "image" {repository, tag, digest}`. */}}
{{- define "fcgimux.image" -}}
{{- $registry := (.root.Values.global | default dict).imageRegistry -}}
{{- $name := .image.repository -}}
{{- if and $registry (kindIs "string" $registry) -}}{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name -}}{{- end -}}
{{- if .image.digest -}}{{- printf "%s@%s" $name .image.digest -}}{{- else -}}{{- printf "%s:%s" $name .image.tag -}}{{- end -}}
{{- end -}}

{{- define "fcgimux.terminationGracePeriodSeconds" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- add ($v.drain.seconds | int64) 10 -}}
{{- end -}}
