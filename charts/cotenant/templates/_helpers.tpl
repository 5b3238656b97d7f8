{{/* Names. */}}
{{- define "cotenant.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "cotenant.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cotenant.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "cotenant.selectorLabels" -}}
{{- if .Values.selectorLabelsOverride -}}
{{ toYaml .Values.selectorLabelsOverride }}
{{- else -}}
app.kubernetes.io/name: {{ include "cotenant.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{- define "cotenant.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "cotenant.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "cotenant.metadata" -}}
namespace: {{ include "cotenant.namespace" . }}
labels:
  {{- include "cotenant.labels" . | nindent 2 }}
{{- end -}}

{{/* Whether image.repository is NVIDIA's own. */}}
{{- define "cotenant.imageIsNvidias" -}}
{{- if hasSuffix "k8s-device-plugin" (.Values.image.repository | toString) }}true{{ end -}}
{{- end -}}

{{- define "cotenant.image" -}}
{{- if include "cotenant.imageIsNvidias" . -}}
localhost/cotenant:{{ .Chart.AppVersion }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "cotenant.keeperImage" -}}
{{- $image := include "cotenant.image" . -}}
{{- $repository := regexReplaceAll ":[^:/]*$" $image "" -}}
{{- $tag := regexFind "[^:]*$" $image -}}
{{ default $repository .Values.keeper.image.repository }}:{{ default $tag .Values.keeper.image.tag }}
{{- end -}}

{{/* The configurations, from this chart's layout or the operator's: name, map, default. */}}
{{- define "cotenant.config" -}}
{{- $operators := .Values.devicePlugin.config | default dict -}}
{{- if $operators.create -}}
{{ dict "name" "" "map" ($operators.data | default dict) "default" ($operators.default | default "") | toYaml }}
{{- else if $operators.name -}}
{{ dict "name" $operators.name "map" dict "default" ($operators.default | default "") | toYaml }}
{{- else -}}
{{ dict "name" (.Values.config.name | default "") "map" (.Values.config.map | default dict) "default" (.Values.config.default | default "") | toYaml }}
{{- end -}}
{{- end -}}

{{- define "cotenant.migStrategy" -}}
{{- $mig := .Values.mig | default dict -}}
{{- default ($mig.strategy | default "") .Values.migStrategy -}}
{{- end -}}

{{- define "cotenant.mpsRoot" -}}
{{- $operators := .Values.devicePlugin.mps | default dict -}}
{{- default .Values.mps.root $operators.root -}}
{{- end -}}

{{- define "cotenant.deviceListStrategy" -}}
{{- if kindIs "slice" .Values.deviceListStrategy -}}
{{- join "," .Values.deviceListStrategy -}}
{{- else -}}
{{- .Values.deviceListStrategy | default "" -}}
{{- end -}}
{{- end -}}

{{/* Whether any configuration may use MIG: an external one may. */}}
{{- define "cotenant.mayUseMig" -}}
{{- $config := fromYaml (include "cotenant.config" .) -}}
{{- $strategy := include "cotenant.migStrategy" . -}}
{{- $may := not (empty $config.name) -}}
{{- if and $strategy (ne $strategy "none") -}}{{- $may = true -}}{{- end -}}
{{- range $config.map -}}
{{- $file := fromYaml . -}}
{{- $flags := $file.flags | default dict -}}
{{- if and (not $strategy) (ne ($flags.migStrategy | default "none") "none") -}}{{- $may = true -}}{{- end -}}
{{- if contains "mig" (toJson ($file.cotenant | default dict)) -}}{{- $may = true -}}{{- end -}}
{{- end -}}
{{- if $may }}true{{ end -}}
{{- end -}}

{{/* Whether a container runtime may want SYS_ADMIN from whoever names devices by mounts. */}}
{{- define "cotenant.mayUseVolumeMounts" -}}
{{- $may := contains "volume-mounts" (include "cotenant.deviceListStrategy" .) -}}
{{- range (fromYaml (include "cotenant.config" .)).map -}}
{{- $plugin := ((fromYaml .).flags | default dict).plugin | default dict -}}
{{- if contains "volume-mounts" (toJson ($plugin.deviceListStrategy | default "")) -}}{{- $may = true -}}{{- end -}}
{{- end -}}
{{- if $may }}true{{ end -}}
{{- end -}}

{{- define "cotenant.agentSecurityContext" -}}
{{- if .Values.securityContext -}}
{{ toYaml .Values.securityContext }}
{{- else if .Values.compatWithCPUManager -}}
privileged: true
{{- else if or (include "cotenant.mayUseMig" .) (include "cotenant.mayUseVolumeMounts" .) -}}
capabilities:
  add: ["KILL", "SYS_PTRACE", "SYS_ADMIN"]
  drop: ["ALL"]
{{- else -}}
allowPrivilegeEscalation: false
capabilities:
  add: ["KILL", "SYS_PTRACE"]
  drop: ["ALL"]
{{- end -}}
{{- end -}}

{{/* Variables that values set, as the plugin of NVIDIA knows them. */}}
{{- define "cotenant.flags" -}}
{{- $flags := list
  (list "PASS_DEVICE_SPECS" .Values.compatWithCPUManager)
  (list "MIG_STRATEGY" (include "cotenant.migStrategy" .))
  (list "FAIL_ON_INIT_ERROR" .Values.failOnInitError)
  (list "DEVICE_LIST_STRATEGY" (include "cotenant.deviceListStrategy" .))
  (list "DEVICE_ID_STRATEGY" .Values.deviceIDStrategy)
  (list "NVIDIA_DRIVER_ROOT" .Values.nvidiaDriverRoot)
  (list "NVIDIA_DEV_ROOT" .Values.nvidiaDevRoot)
  (list "GDRCOPY_ENABLED" .Values.gdrcopyEnabled)
  (list "GDS_ENABLED" .Values.gdsEnabled)
  (list "MOFED_ENABLED" .Values.mofedEnabled)
  (list "DEVICE_DISCOVERY_STRATEGY" .Values.deviceDiscoveryStrategy)
  (list "GFD_NO_TIMESTAMP" .Values.noTimestamp)
  (list "GFD_SLEEP_INTERVAL" .Values.sleepInterval)
  (list "NVIDIA_CDI_HOOK_PATH" .Values.cdi.nvidiaHookPath)
  (list "CDI_FEATURE_FLAGS" .Values.cdi.featureFlags) -}}
{{- range $flags }}
{{- $value := index . 1 -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ index . 0 }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the node's container runtime is asked for. */}}
{{- define "cotenant.runtimeVariables" -}}
- name: NVIDIA_VISIBLE_DEVICES
  value: all
- name: NVIDIA_DRIVER_CAPABILITIES
  value: compute,utility
{{- end -}}

{{/* What agent and keeper have in common at the level of the pod. */}}
{{- define "cotenant.podPlacement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Refuses values that contradict each other. */}}
{{- define "cotenant.check" -}}
{{- $config := fromYaml (include "cotenant.config" .) -}}
{{- $operators := .Values.devicePlugin.config | default dict -}}
{{- if .Values.namespace -}}
{{- fail "`namespace` is not a value: give the namespace with helm's --namespace, or set namespaceOverride" -}}
{{- end -}}
{{- if and (eq (include "cotenant.namespace" .) "default") (not .Values.allowDefaultNamespace) -}}
{{- fail "the namespace `default` is refused: give another one with --namespace, or set allowDefaultNamespace=true" -}}
{{- end -}}
{{- if and (or $operators.create $operators.name) (or .Values.config.name .Values.config.map) -}}
{{- fail "`config` and `devicePlugin.config` both name configurations: leave one of them out" -}}
{{- end -}}
{{- if and $config.name $config.map -}}
{{- fail "`config.name` and `config.map` exclude each other: a ConfigMap of yours, or one that is made from the map" -}}
{{- end -}}
{{- range .Values.config.fallbackStrategies -}}
{{- if not (has . (list "named" "single" "empty")) -}}
{{- fail (printf "`config.fallbackStrategies`: `%v` is none of named, single, empty" .) -}}
{{- end -}}
{{- end -}}
{{- if $config.map -}}
{{- if and $config.default (not (hasKey $config.map $config.default)) -}}
{{- fail (printf "`config.default` names `%s`, which `config.map` does not have" $config.default) -}}
{{- end -}}
{{- if and (gt (len $config.map) 1) (not $config.default) (not (hasKey $config.map "default")) (not (has "empty" .Values.config.fallbackStrategies)) -}}
{{- fail "`config.map` has several configurations: set config.default, or call one of them `default`" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Keys that have no effect here, one a line. */}}
{{- define "cotenant.ignored" -}}
{{- $lines := list -}}
{{- if include "cotenant.imageIsNvidias" . -}}
{{- $lines = append $lines (printf "image: %s is NVIDIA's image; %s is used instead" .Values.image.repository (include "cotenant.image" .)) -}}
{{- end -}}
{{- $known := list "config" "compatWithCPUManager" "migStrategy" "failOnInitError" "deviceListStrategy" "deviceIDStrategy" "nvidiaDriverRoot" "nvidiaDevRoot" "gdrcopyEnabled" "gdsEnabled" "mofedEnabled" "deviceDiscoveryStrategy" "noTimestamp" "sleepInterval" "nameOverride" "fullnameOverride" "namespaceOverride" "selectorLabelsOverride" "allowDefaultNamespace" "imagePullSecrets" "image" "updateStrategy" "podAnnotations" "podSecurityContext" "securityContext" "resources" "nodeSelector" "affinity" "tolerations" "priorityClassName" "runtimeClassName" "devicePlugin" "mps" "cdi" "labels" "keeper" "metrics" "uninstall" "nodePolicy" "kubeletDirectory" "stateDirectory" "extraEnv" "extraVolumes" "extraVolumeMounts" "global" "mig" -}}
{{- $sections := dict
  "config" (list "name" "map" "default" "fallbackStrategies")
  "image" (list "repository" "pullPolicy" "tag")
  "devicePlugin" (list "enabled" "enableHostNetwork" "config" "mps" "env")
  "mps" (list "root" "enableHostNetwork" "enableHostPID")
  "mig" (list "strategy")
  "cdi" (list "nvidiaHookPath" "featureFlags" "directory") -}}
{{- range $key, $value := .Values -}}
{{- if eq $key "gfd" -}}
{{- $lines = append $lines "gfd: the agent labels its node itself; labels.enabled=false leaves that to others" -}}
{{- else if eq $key "nfd" -}}
{{- $lines = append $lines "nfd: Node Feature Discovery is not installed; without it label GPU nodes nvidia.com/gpu.present=true" -}}
{{- else if not (has $key $known) -}}
{{- $lines = append $lines (printf "%s: not known here" $key) -}}
{{- else if and (hasKey $sections $key) (kindIs "map" $value) -}}
{{- range $inner, $_ := $value -}}
{{- if not (has $inner (get $sections $key)) -}}
{{- $lines = append $lines (printf "%s.%s: not known here" $key $inner) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey .Values.mps "enableHostPID") (not .Values.mps.enableHostPID) -}}
{{- $lines = append $lines "mps.enableHostPID: the keeper always sees the host's processes" -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end -}}
