{{- /* What the programs are told, as text: the ConfigMaps hold it, and pods carry its digest. */}}

{{- define "bearloop.settings" -}}
BEARLOOP_STORE_URL: {{ include "bearloop.storeUrl" . | quote }}
BEARLOOP_TRACKING_URL: {{ include "bearloop.trackingUrl" . | quote }}
BEARLOOP_TRACKING_PAGES: {{ print (include "bearloop.publicUrl" .) "/mlflow" | quote }}
{{- with include "bearloop.publicUrl" . }}
BEARLOOP_PUBLIC_URL: {{ . | quote }}
{{- end }}
BEARLOOP_CLUSTER: kubernetes
BEARLOOP_CLUSTER_FILE: /etc/bearloop/cluster.json
BEARLOOP_WORK_FOLDER: /scratch
{{- range $name, $value := .Values.settings }}
{{- /* Helm reads numbers as floats, and would write large ones with an exponent. */}}
{{- $text := ternary (printf "%.0f" $value) (toString $value) (kindIs "float64" $value) }}
BEARLOOP_{{ $name | snakecase | upper }}: {{ $text | quote }}
{{- end }}
{{- range $name, $value := include "bearloop.storeVariables" . | fromJson }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "bearloop.storeUrl" -}}
{{ ternary "s3://bearloop" .Values.store.url .Values.minio.enabled }}
{{- end }}

{{- /* Where the S3 server is: boto3 reads these itself. */}}
{{- define "bearloop.storeVariables" -}}
{{- $own := printf "http://%s:9000" (include "bearloop.names.minio" .) }}
{{- $variables := dict "AWS_DEFAULT_REGION" .Values.store.region }}
{{- with ternary $own .Values.store.endpoint .Values.minio.enabled }}
{{- $_ := set $variables "AWS_ENDPOINT_URL" . }}
{{- end }}
{{- toJson $variables }}
{{- end }}

{{- /* The API's address in the world; empty where the chart knows none. */}}
{{- define "bearloop.publicUrl" -}}
{{- if .Values.ingress.enabled }}
{{- printf "%s://%s" (ternary "https" "http" (ne .Values.ingress.tlsSecret "")) .Values.ingress.host }}
{{- else if and .Values.gateway.enabled .Values.gateway.host }}
{{- print "https://" .Values.gateway.host }}
{{- end }}
{{- end }}

{{- define "bearloop.trackingUrl" -}}
{{- $own := printf "http://%s:5000" (include "bearloop.names.mlflow" .) }}
{{- ternary $own .Values.mlflow.url .Values.mlflow.enabled }}
{{- end }}

{{- /* The worker's file: api/cluster/kubernetes_rules.py, field by field. */}}
{{- define "bearloop.cluster" -}}
{{- $jobs := list (include "bearloop.names.storeJobsSecret" .) }}
{{- $training := append $jobs .Values.mlflow.existingSecret | compact }}
{{- $inference := list (include "bearloop.names.storeInferenceSecret" .) }}
{{- $importer := dict "root" . "program" .Values.importer "image" "api" "secrets" $jobs }}
{{- $trainer := dict "root" . "program" .Values.trainer "image" "trainer" "secrets" $training }}
{{- $server := dict "root" . "program" .Values.inference "image" "inference" "secrets" $inference }}
{{- $scaling := dict
  "port" 8080
  "target_cpu" (int .Values.inference.targetCpu)
  "scale_in_after" .Values.inference.scaleInAfter }}
{{- dict
  "namespace" .Release.Namespace
  "release" .Release.Name
  "owner" (include "bearloop.names.owner" .)
  "endpoints_outlive" .Values.inference.outliveRelease
  "pull_policy" .Values.image.pullPolicy
  "pull_secrets" .Values.image.pullSecrets
  "service_account" (include "bearloop.names.powerless" .)
  "gpu_resource" .Values.jobs.gpuResource
  "reads_nodes" .Values.rbac.readNodes
  "grace" (printf "PT%dS" (int .Values.jobs.grace))
  "importer" (include "bearloop.podRules" $importer | fromJson)
  "trainer" (include "bearloop.podRules" $trainer | fromJson)
  "inference" (merge (include "bearloop.podRules" $server | fromJson) $scaling)
  | toPrettyJson }}
{{- end }}

{{- /* How one program's pods look; an empty value is one that is not set. */}}
{{- define "bearloop.podRules" -}}
{{- dict
  "image" (include "bearloop.image" (dict "root" .root "program" .image))
  "secrets" .secrets
  "ca_bundle" (.root.Values.caBundle | default nil)
  "environment" (merge (dict) .program.environment (include "bearloop.storeVariables" .root | fromJson))
  "cpu" (float64 .program.cpu)
  "memory" .program.memory
  "shared_memory" (.program.sharedMemory | default nil)
  "scratch" .program.scratch
  "node_selector" .program.nodeSelector
  "tolerations" .program.tolerations
  "priority_class" (.program.priorityClass | default nil)
  "runtime_class" (.program.runtimeClass | default nil)
  "annotations" .program.annotations
  | toJson }}
{{- end }}
