{{/* The sidecar's values as JSON, wherever the calling chart has them: under the alias `fcgimux`, or under this chart's name. */}}
{{- define "fcgimux.values" -}}
{{- if hasKey .Values "fcgimux" -}}
{{- toJson .Values.fcgimux -}}
{{- else if hasKey .Values "fcgimux-lib" -}}
{{- toJson (index .Values "fcgimux-lib") -}}
{{- else -}}
{{- fail "there are no values of fcgimux: depend on fcgimux-lib, best with `alias: fcgimux`" -}}
{{- end -}}
{{- end -}}

{{- define "fcgimux.fullname" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- if $v.fullnameOverride -}}
{{- $v.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains "fcgimux" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-fcgimux" (.Release.Name | trunc 45 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "fcgimux.labels" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $own := dict "app.kubernetes.io/name" "fcgimux" "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml (merge $own $v.commonLabels) -}}
{{- end -}}

{{- define "fcgimux.serviceAccountName" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $v.serviceAccount.name | default (ternary (include "fcgimux.fullname" .) "default" $v.serviceAccount.create) -}}
{{- end -}}

{{/* Labels of the pods; the PodMonitor of the chart fcgimux looks for them. */}}
{{- define "fcgimux.podLabels" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- toYaml (merge (dict "fcgimux.dev/sidecar" "true") $v.podLabels) -}}
{{- end -}}

{{- define "fcgimux.podAnnotations" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $own := dict "kubectl.kubernetes.io/default-container" $v.webContainer -}}
{{- if eq $v.reload "restart" -}}
{{- $_ := set $own "fcgimux.dev/config-checksum" (include "fcgimux.config" . | sha256sum) -}}
{{- end -}}
{{- toYaml (merge $own $v.podAnnotations) -}}
{{- end -}}

{{- define "fcgimux.imagePullSecrets" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $secrets := list -}}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) $v.imagePullSecrets -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- if $secrets -}}
{{- toYaml (uniq $secrets) -}}
{{- end -}}
{{- end -}}

{{/* An image by `dict "root" . "image" {repository, tag, digest}`. */}}
{{- define "fcgimux.image" -}}
{{- $registry := (.root.Values.global | default dict).imageRegistry -}}
{{- $name := .image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name -}}{{- end -}}
{{- if .image.digest -}}{{- printf "%s@%s" $name .image.digest -}}{{- else -}}{{- printf "%s:%s" $name (toString .image.tag) -}}{{- end -}}
{{- end -}}

{{- define "fcgimux.terminationGracePeriodSeconds" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- add ($v.drain.seconds | int64) 10 -}}
{{- end -}}
