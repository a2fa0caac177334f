{{/* Name and namespace of the upstream Service as JSON; without one both are empty. */}}
{{- define "fcgimux.upstream" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $service := tpl $v.upstream.service . -}}
{{- $parts := splitList "/" $service -}}
{{- if not $service -}}
{{- toJson (dict "namespace" "" "name" "") -}}
{{- else if eq (len $parts) 2 -}}
{{- toJson (dict "namespace" (first $parts) "name" (last $parts)) -}}
{{- else -}}
{{- toJson (dict "namespace" .Release.Namespace "name" $service) -}}
{{- end -}}
{{- end -}}

{{/* Whether the API server is asked for endpoints: "true" or nothing. */}}
{{- define "fcgimux.watches" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- if and (eq $v.upstream.discovery "endpointslice") (include "fcgimux.upstream" . | fromJson).name -}}true{{- end -}}
{{- end -}}

{{- define "fcgimux.endpoints" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $service := include "fcgimux.upstream" . | fromJson -}}
{{- $port := $v.upstream.port | int64 -}}
{{- $endpoints := list -}}
{{- if include "fcgimux.watches" . -}}
{{- $endpoints = append $endpoints (dict "service" (printf "%s/%s" $service.namespace $service.name) "port" $port) -}}
{{- else if $service.name -}}
{{- $endpoints = append $endpoints (dict "dns" (printf "%s.%s.svc.%s.:%d" $service.name $service.namespace (trimSuffix "." $v.upstream.clusterDomain) $port)) -}}
{{- end -}}
{{- range $v.upstream.addresses -}}
{{- if hasPrefix "/" . -}}
{{- $endpoints = append $endpoints (dict "socket" .) -}}
{{- else if regexMatch `^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]+$` . -}}
{{- $endpoints = append $endpoints (dict "address" .) -}}
{{- else -}}
{{- $endpoints = append $endpoints (dict "dns" .) -}}
{{- end -}}
{{- end -}}
{{- if not $endpoints -}}
{{- fail "fcgimux has nowhere to send requests: set upstream.service, upstream.addresses or config.pools" -}}
{{- end -}}
{{- toJson (dict "endpoints" $endpoints) -}}
{{- end -}}

{{/* fcgimux.yaml. */}}
{{- define "fcgimux.config" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $given := $v.config -}}
{{- $config := dict "admin" (dict "listen" (printf "%s:%d" $v.metrics.address ($v.metrics.port | int64))) "drain" (dict "deadline" (printf "%ds" ($v.drain.seconds | int64))) -}}
{{- if hasKey ($given.admin | default dict) "listen" -}}{{- fail "config.admin.listen: set metrics.address and metrics.port, which probes and ports follow" -}}{{- end -}}
{{- if hasKey ($given.drain | default dict) "deadline" -}}{{- fail "config.drain.deadline: set drain.seconds, which the pod's grace period follows" -}}{{- end -}}
{{- if hasKey $given "listeners" -}}
{{- $sockets := list -}}
{{- range $given.listeners -}}{{- $sockets = append $sockets (dig "socket" "" .) -}}{{- end -}}
{{- if not (has $v.listen.path $sockets) -}}{{- fail (printf "config.listeners: one of them must be listen.path (%s), whose folder is mounted" $v.listen.path) -}}{{- end -}}
{{- else -}}
{{- $listener := dict "socket" $v.listen.path "mode" $v.socket.mode -}}
{{- if toString $v.socket.group -}}{{- $_ := set $listener "group" (toString $v.socket.group) -}}{{- end -}}
{{- $_ := set $config "listeners" (list $listener) -}}
{{- end -}}
{{- if hasKey $given "pools" -}}
{{- if or $v.pool.settings $v.queue $v.timeouts $v.upstream.addresses -}}{{- fail "config.pools holds all pools: put pool.settings, queue, timeouts and upstream.addresses there as well" -}}{{- end -}}
{{- else -}}
{{- $pool := include "fcgimux.endpoints" . | fromJson -}}
{{- if $v.upstream.statusPort -}}{{- $_ := set $pool "status" (dict "port" ($v.upstream.statusPort | int64)) -}}{{- end -}}
{{- if $v.queue -}}{{- $_ := set $pool "queue" $v.queue -}}{{- end -}}
{{- if $v.timeouts -}}{{- $_ := set $pool "timeouts" $v.timeouts -}}{{- end -}}
{{- $_ := set $config "pools" (dict $v.pool.name (mergeOverwrite $pool $v.pool.settings)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config $given) -}}
{{- end -}}

{{- define "fcgimux.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "fcgimux.fullname" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "fcgimux.labels" . | nindent 4 }}
data:
  fcgimux.yaml: |
    {{- include "fcgimux.config" . | nindent 4 }}
{{- end -}}
