{{/* Name of everything that a release makes: its own, with the chart's unless that stands in it already. */}}
{{- define "cosell-sync.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "cosell-sync.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cosell-sync.labels" -}}
{{ include "cosell-sync.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "cosell-sync.image" -}}
{{- $repository := required "image.repository is not set: name where the image was pushed" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The configuration as text. */}}
{{- define "cosell-sync.config" -}}
{{- if kindIs "string" .Values.config -}}{{- .Values.config -}}{{- else -}}{{- toYaml .Values.config -}}{{- end -}}
{{- end -}}

{{/* What no schema can say: values that do not go together, and secrets in a ConfigMap. */}}
{{- define "cosell-sync.validate" -}}
{{- $config := include "cosell-sync.config" . | fromYaml -}}
{{- if hasKey $config "Error" -}}
{{- fail (printf "config is no YAML: %s" (get $config "Error")) -}}
{{- end -}}
{{- if not $config -}}
{{- fail "config is empty: give the configuration with --set-file config=cosell-sync.yaml" -}}
{{- end -}}
{{- $secrets := list "certificate" "client_secret" "consumer_secret" "key" "private_key" "refresh_token" "token" -}}
{{- range $section, $values := $config -}}
{{- if kindIs "map" $values -}}
{{- range $secrets -}}
{{- if hasKey $values . -}}
{{- fail (printf "config.%s.%s is a secret, and many may read a ConfigMap: write %s_file: /secrets/NAME, and list the Secret under secrets" $section . .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $notices := $config.notices | default list -}}
{{- if kindIs "map" $notices -}}{{- $notices = list $notices -}}{{- end -}}
{{- range $notices -}}
{{- if hasKey . "url" -}}
{{- fail "config.notices.url is a secret, and many may read a ConfigMap: write url_file: /secrets/NAME, and list the Secret under secrets" -}}
{{- end -}}
{{- end -}}
{{- $store := $config.store | default dict -}}
{{- $url := $store.url | default "" -}}
{{- if regexMatch "://[^/@]*:[^/@]*@" $url -}}
{{- fail "config.store.url holds a password, and many may read a ConfigMap: write url_file: /secrets/NAME, and list the Secret under secrets" -}}
{{- end -}}
{{- $elsewhere := or $store.url_file (hasPrefix "postgres" $url) -}}
{{- range .Values.env -}}
{{- if has .name (list "COSELL_STORE__URL" "COSELL_STORE__URL_FILE") -}}{{- $elsewhere = true -}}{{- end -}}
{{- end -}}
{{- if and (not .Values.persistence.enabled) (not $elsewhere) -}}
{{- fail "persistence is off, and config.store names no PostgreSQL: the store would be lost with the pod. Set config.store.url_file, or persistence.enabled" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not $elsewhere) -}}
{{- fail "more than one replica needs a store on PostgreSQL: set config.store.url_file, or replicas: 1" -}}
{{- end -}}
{{- if and (eq .Values.command "worker") (not $elsewhere) -}}
{{- fail "command: worker needs a store on PostgreSQL: set config.store.url_file, or command: run" -}}
{{- end -}}
{{- if and .Values.webhookIngress.enabled (not .Values.webhookIngress.host) -}}
{{- fail "webhookIngress.host is not set: it is the host of config.webhooks.public_url" -}}
{{- end -}}
{{- end -}}
