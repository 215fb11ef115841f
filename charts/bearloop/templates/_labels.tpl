{{- /*
Labels, in one place. A thing's component is the folder of its template; what belongs to none says
its own: `include "bearloop.labels" (merge (dict "component" "first-token") .)`.
*/}}

{{- define "bearloop.component" -}}
{{ .component | default (.Template.Name | dir | base) }}
{{- end }}

{{- /* Of every object. The name is the chart's whatever nameOverride says: the worker knows it. */}}
{{- define "bearloop.labels" -}}
{{ include "bearloop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* What selects a component's pods; it never changes between versions. */}}
{{- define "bearloop.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ include "bearloop.component" . }}
{{- end }}

{{- /* A NetworkPolicy's peers: the pods of these components of the release, `.components`. */}}
{{- define "bearloop.peers" -}}
{{- range $component := .components }}
- podSelector:
    matchLabels:
      {{- include "bearloop.selector" (merge (dict "component" $component) $.root) | nindent 6 }}
{{- end }}
{{- end }}
