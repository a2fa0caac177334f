{{/* The groups of files/rules.yaml and files/alerts.yaml, without those alerts that are disabled, with the limits that are given. */}}
{{- define "fcgimux.app.rules" -}}
{{- $thresholds := .Values.metrics.prometheusRule.thresholds | default dict -}}
{{- $disabled := .Values.metrics.prometheusRule.disabled | default list -}}
{{- $known := dict -}}
{{- $groups := list -}}
{{- range $file := list "files/rules.yaml" "files/alerts.yaml" -}}
{{- range $group := ($.Files.Get $file | fromYaml).groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- $alert := $rule.alert | default "" -}}
{{- $_ := set $known $alert true -}}
{{- if hasKey $thresholds $alert -}}
{{- $compared := regexFind "[<>]=? *[0-9.]+" $rule.expr -}}
{{- if not $compared -}}{{- fail (printf "metrics.prometheusRule.thresholds: %s compares with no limit" $alert) -}}{{- end -}}
{{- $limit := printf "%s %v" (regexFind "[<>]=?" $compared) (index $thresholds $alert) -}}
{{- $_ := set $rule "expr" (replace $compared $limit $rule.expr) -}}
{{- end -}}
{{- if not (has $alert $disabled) -}}{{- $rules = append $rules $rule -}}{{- end -}}
{{- end -}}
{{- if $rules -}}{{- $groups = append $groups (merge (dict "rules" $rules) (omit $group "rules")) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range concat (keys $thresholds) $disabled -}}
{{- if not (hasKey $known .) -}}{{- fail (printf "metrics.prometheusRule: there is no alert %s" .) -}}{{- end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}
