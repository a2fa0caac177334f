{{/* Name and namespace of the upstream Service as JSON; without one both are empty. */}}
{{- define "fcgimux.upstream" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $service := tpl $v.upstream.service . -}}
{{- if not (regexMatch "^(([a-z0-9-]+/)?[a-z0-9-]+)?$" $service) -}}
{{- fail (printf "upstream.service: %q: write NAME or NAMESPACE/NAME of a Service; a host with a port goes into upstream.addresses" $service) -}}
{{- end -}}
{{- $parts := splitList "/" $service -}}
{{- if not $service -}}
{{- toJson (dict "namespace" "" "name" "") -}}
{{- else if eq (len $parts) 2 -}}
{{- toJson (dict "namespace" (first $parts) "name" (last $parts)) -}}
{{- else -}}
{{- toJson (dict "namespace" .Release.Namespace "name" $service) -}}
{{- end -}}
{{- end -}}

{{- define "fcgimux.endpoints" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- $service := include "fcgimux.upstream" . | fromJson -}}
{{- $port := $v.upstream.port | int64 -}}
{{- $endpoints := list -}}
{{- if and (eq $v.upstream.discovery "endpointslice") (not $service.name) -}}
{{- fail "upstream.discovery: endpointslice finds the pods of a Service: set upstream.service" -}}
{{- else if eq $v.upstream.discovery "endpointslice" -}}
{{- $endpoints = append $endpoints (dict "service" (printf "%s/%s" $service.namespace $service.name) "port" $port) -}}
{{- else if $service.name -}}
{{- $endpoints = append $endpoints (dict "dns" (printf "%s.%s.svc.%s.:%d" $service.name $service.namespace (trimSuffix "." $v.upstream.clusterDomain) $port)) -}}
{{- end -}}
{{- range $v.upstream.addresses -}}
{{- $address := tpl . $ -}}
{{- if hasPrefix "/" $address -}}
{{- $endpoints = append $endpoints (dict "socket" $address) -}}
{{- else if regexMatch `^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]+$` $address -}}
{{- $endpoints = append $endpoints (dict "address" $address) -}}
{{- else if regexMatch `^[A-Za-z0-9._-]+:[0-9]+$` $address -}}
{{- $endpoints = append $endpoints (dict "dns" $address) -}}
{{- else -}}
{{- fail (printf "upstream.addresses: %q: write NAME:PORT, IP:PORT, [IPV6]:PORT or /PATH of a socket" $address) -}}
{{- end -}}
{{- end -}}
{{- if not $endpoints -}}
{{- fail "fcgimux has nowhere to send requests: set upstream.service, upstream.addresses or config.pools" -}}
{{- end -}}
{{- toJson (dict "endpoints" $endpoints) -}}
{{- end -}}

{{/* What of `config` would part the program from the pod around it. */}}
{{- define "fcgimux.config.refuse" -}}
{{- $v := .v -}}
{{- $given := $v.config -}}
{{- if hasKey ($given.admin | default dict) "listen" -}}{{- fail "config.admin.listen: set metrics.address and metrics.port, which probes and ports follow" -}}{{- end -}}
{{- if hasKey ($given.drain | default dict) "deadline" -}}{{- fail "config.drain.deadline: set drain.seconds, which the pod's grace period follows" -}}{{- end -}}
{{- if and (regexMatch `^(127\.|\[::1\])` $v.metrics.address) (or $v.probes.startup $v.probes.liveness $v.probes.readiness) -}}
{{- fail (printf "metrics.address: %s: the probes come from outside of the pod: set 0.0.0.0 or [::], or all of probes to null" $v.metrics.address) -}}
{{- end -}}
{{- $folder := dir $v.listen.path -}}
{{- if has $folder (list "/run" "/var/run" "/tmp" "/var/tmp" "/var" "/etc" "/etc/fcgimux" "/usr" "/dev" "/proc" "/sys") -}}
{{- fail (printf "listen.path: %s: its folder is mounted in both containers and would hide their own %s: put it into a folder of its own, such as /run/fcgimux/fcgimux.sock" $v.listen.path $folder) -}}
{{- end -}}
{{- if hasKey $given "listeners" -}}
{{- $sockets := list -}}
{{- range $given.listeners -}}{{- with dig "socket" "" . -}}{{- $sockets = append $sockets . -}}{{- end -}}{{- end -}}
{{- if not (has $v.listen.path $sockets) -}}{{- fail (printf "config.listeners: one of them must be listen.path (%s), whose folder is mounted" $v.listen.path) -}}{{- end -}}
{{- range $sockets -}}{{- if ne (dir .) $folder -}}{{- fail (printf "config.listeners: %s: put every socket into the folder of listen.path (%s), which is mounted" . $folder) -}}{{- end -}}{{- end -}}
{{- end -}}
{{- if and (hasKey $given "pools") (or $v.pool.settings $v.queue $v.timeouts $v.upstream.addresses) -}}
{{- fail "config.pools holds all pools: put pool.settings, queue, timeouts and upstream.addresses there as well" -}}
{{- end -}}
{{- end -}}

{{/* fcgimux.yaml. */}}
{{- define "fcgimux.config" -}}
{{- $v := include "fcgimux.values" . | fromJson -}}
{{- include "fcgimux.config.refuse" (dict "v" $v) -}}
{{- $config := dict "admin" (dict "listen" (printf "%s:%d" $v.metrics.address ($v.metrics.port | int64))) "drain" (dict "deadline" (printf "%ds" ($v.drain.seconds | int64))) -}}
{{- if not (hasKey $v.config "listeners") -}}
{{- $listener := dict "socket" $v.listen.path "mode" $v.socket.mode -}}
{{- with $v.socket.group -}}{{- $_ := set $listener "group" (ternary (printf "%v" .) (int64 . | toString) (kindIs "string" .)) -}}{{- end -}}
{{- $_ := set $config "listeners" (list $listener) -}}
{{- end -}}
{{- if not (hasKey $v.config "pools") -}}
{{- $pool := dict -}}
{{- if not (hasKey $v.pool.settings "endpoints") -}}{{- $pool = include "fcgimux.endpoints" . | fromJson -}}{{- end -}}
{{- if $v.upstream.statusPort -}}{{- $_ := set $pool "status" (dict "port" ($v.upstream.statusPort | int64)) -}}{{- end -}}
{{- if $v.queue -}}{{- $_ := set $pool "queue" $v.queue -}}{{- end -}}
{{- if $v.timeouts -}}{{- $_ := set $pool "timeouts" $v.timeouts -}}{{- end -}}
{{- $_ := set $config "pools" (dict $v.pool.name (mergeOverwrite $pool $v.pool.settings)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config $v.config) -}}
{{- end -}}

{{/* Namespaces whose EndpointSlices the configuration asks for, as a JSON list. */}}
{{- define "fcgimux.watched" -}}
{{- $namespaces := list -}}
{{- range (include "fcgimux.config" . | fromYaml).pools -}}
{{- range .endpoints -}}
{{- with .service -}}
{{- $parts := toString . | splitList "/" -}}
{{- $namespaces = append $namespaces (ternary (first $parts) $.Release.Namespace (eq (len $parts) 2)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- uniq $namespaces | toJson -}}
{{- end -}}

{{- define "fcgimux.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "fcgimux.fullname" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "fcgimux.labels" . | nindent 4 }}
data:
  fcgimux.yaml: |
    {{- include "fcgimux.config" . | nindent 4 }}
{{- end -}}
