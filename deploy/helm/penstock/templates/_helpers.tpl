{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "penstock.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ include "penstock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "penstock.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "penstock.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "penstock.poolNamespace" -}}
{{- default .Release.Namespace .Values.discovery.namespace -}}
{{- end -}}

{{/* The configuration file. What the chart decides wins over .Values.config. */}}
{{- define "penstock.config" -}}
{{- $decided := dict "kind" "GatewayConfig" "lifecycle" (dict
      "drain_delay" (printf "%ds" (int .Values.drain.delaySeconds))
      "drain_limit" (printf "%ds" (int .Values.drain.limitSeconds))) -}}
{{- if .Values.discovery.kubernetes -}}
{{- $kubernetes := dict "enabled" true "own_service" (include "penstock.fullname" .) -}}
{{- with .Values.discovery.gatewayAddress -}}
{{- $_ := set $kubernetes "gateway_address" . -}}
{{- end -}}
{{- $_ := set $decided "kubernetes" $kubernetes -}}
{{- end -}}
{{- $admin := default dict .Values.config.admin -}}
{{- if and (kindIs "map" $admin) (hasKey $admin "tls") (not .Values.admin.tls.secretName) -}}
{{- fail "config.admin.tls needs admin.tls.secretName, which probes and scrapes go by" -}}
{{- end -}}
{{- if .Values.admin.tls.secretName -}}
{{- $pair := dict "cert" "/etc/penstock-admin-tls/tls.crt" "key" "/etc/penstock-admin-tls/tls.key" -}}
{{- $_ := set $decided "admin" (dict "tls" (dict "certificates" (list $pair))) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $decided) -}}
{{- end -}}

{{/* How Prometheus scrapes the admin port, of (list $ .Values.podMonitor). */}}
{{- define "penstock.scraped" -}}
{{- $root := index . 0 -}}
{{- $monitor := index . 1 -}}
port: metrics
path: /metrics
interval: {{ $monitor.interval }}
{{- with $root.Values.admin.tls.secretName }}
scheme: https
tlsConfig:
  {{- if $monitor.tlsConfig }}
  {{- toYaml $monitor.tlsConfig | nindent 2 }}
  {{- else }}
  ca: {secret: {name: {{ . }}, key: ca.crt}}
  serverName: {{ include "penstock.fullname" $root }}-metrics.{{ $root.Release.Namespace }}.svc
  {{- end }}
{{- end }}
{{- end -}}

{{/* API of a kind that two groups have, of (list $ "InferenceObjective"): the one that the program prefers, of those that are there. */}}
{{- define "penstock.inferenceApi" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $new := "llm-d.ai/v1alpha2" -}}
{{- $old := "inference.networking.x-k8s.io/v1alpha2" -}}
{{- $has := $root.Capabilities.APIVersions -}}
{{- if $root.Values.inferenceApi -}}
{{- $root.Values.inferenceApi -}}
{{- else if and ($has.Has (printf "%s/%s" $old $kind)) (not ($has.Has (printf "%s/%s" $new $kind))) -}}
{{- $old -}}
{{- else -}}
{{- $new -}}
{{- end -}}
{{- end -}}

{{/* Where model servers publish and replay KV events: as told, or a port for each of their ports and ranks. */}}
{{- define "penstock.kvEventPorts" -}}
{{- $events := default dict .Values.config.kv_events -}}
{{- if .Values.networkPolicy.kvEventPorts -}}
{{- range .Values.networkPolicy.kvEventPorts }}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- else if $events.enabled -}}
{{- $more := sub (mul (len .Values.discovery.endpointPorts) (default 1 $events.ranks)) 1 | int -}}
{{- range list (default 5557 $events.port) $events.replay_port }}
{{- with int . }}
- {port: {{ . }}, protocol: TCP{{ if $more }}, endPort: {{ add . $more }}{{ end }}}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Whose objects count: inference,apps */}}
{{- define "penstock.namespaces" -}}
{{- $more := .Values.discovery.namespaces -}}
{{- if and $more (not .Values.rbac.clusterWide) -}}
{{- fail "discovery.namespaces needs rbac.clusterWide: true" -}}
{{- end -}}
{{- if has "*" $more -}}
*
{{- else -}}
{{- prepend $more (include "penstock.poolNamespace" .) | uniq | join "," -}}
{{- end -}}
{{- end -}}

{{/* app=vllm,tier=gpu */}}
{{- define "penstock.endpointSelector" -}}
{{- $pairs := list -}}
{{- range $key, $value := .Values.discovery.endpointSelector -}}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{/* What the process may read and write: one list for Role and ClusterRole. */}}
{{- define "penstock.rules" -}}
- apiGroups: [""]
  resources: [pods, services]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [inference.networking.k8s.io, inference.networking.x-k8s.io]
  resources: [inferencepools]
  verbs: [get, list, watch]
- apiGroups: [llm-d.ai, inference.networking.x-k8s.io]
  resources: [inferencemodelrewrites, inferenceobjectives]
  verbs: [get, list, watch]
{{- if .Values.discovery.gatewayApi }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways, httproutes, referencegrants, backendtlspolicies]
  verbs: [get, list, watch]
{{- with .Values.discovery.backendAuthorities }}
- apiGroups: [""]
  resources: [configmaps]
  {{- if not (has "*" .) }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get, list, watch]
{{- end }}
{{- with .Values.discovery.gatewaySecrets }}
- apiGroups: [""]
  resources: [secrets]
  {{- if not (has "*" .) }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get, list, watch]
{{- end }}
{{- end }}
{{- if .Values.discovery.write }}
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools/status]
  verbs: [get, patch, update]
- apiGroups: [llm-d.ai, inference.networking.x-k8s.io]
  resources: [inferencemodelrewrites/status, inferenceobjectives/status]
  verbs: [get, patch, update]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.discovery.gatewayApi }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways/status, httproutes/status, backendtlspolicies/status]
  verbs: [get, patch, update]
{{- end }}
{{- end }}
{{- end -}}
