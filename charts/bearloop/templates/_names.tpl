{{- /*
Every name that the chart gives, and nothing else builds one. All begin with the release's own
prefix, so that releases share a namespace; all have at most 63 characters, a StatefulSet's 52.
*/}}

{{- /* The prefix: `<release>-bearloop`, or `bearloop` for a release of that name; at most 40. */}}
{{- define "bearloop.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $full := ternary $name (printf "%s-%s" .Release.Name $name) (eq .Release.Name $name) }}
{{- /* A release may begin with a digit and hold dots, a Service may not. */}}
{{- $plain := print (regexMatch "^[0-9]" $full | ternary "r" "") $full | replace "." "-" }}
{{- if or (gt (len $full) 40) (ne $plain $full) }}
{{- /* With a digest of the whole: two long releases that begin alike stay apart, `a.b` and `a-b` too. */}}
{{- printf "%s-%s" (trunc 31 $plain | trimSuffix "-") (sha256sum $full | trunc 8) }}
{{- else }}
{{- $full }}
{{- end }}
{{- end }}


{{- /* Components */}}
{{- define "bearloop.names.api" -}}{{ include "bearloop.fullname" . }}-api{{- end }}
{{- define "bearloop.names.worker" -}}{{ include "bearloop.fullname" . }}-worker{{- end }}
{{- define "bearloop.names.importer" -}}{{ include "bearloop.fullname" . }}-importer{{- end }}
{{- define "bearloop.names.trainer" -}}{{ include "bearloop.fullname" . }}-trainer{{- end }}
{{- define "bearloop.names.inference" -}}{{ include "bearloop.fullname" . }}-inference{{- end }}
{{- define "bearloop.names.mlflow" -}}{{ include "bearloop.fullname" . }}-mlflow{{- end }}
{{- define "bearloop.names.postgresql" -}}{{ include "bearloop.fullname" . }}-postgresql{{- end }}
{{- define "bearloop.names.minio" -}}{{ include "bearloop.fullname" . }}-minio{{- end }}
{{- define "bearloop.names.life" -}}{{ include "bearloop.fullname" . }}-life{{- end }}

{{- /* As StatefulSets name their pods' volumes. */}}
{{- define "bearloop.names.postgresqlVolume" -}}data-{{ include "bearloop.names.postgresql" . }}-0{{- end }}
{{- define "bearloop.names.minioVolume" -}}data-{{ include "bearloop.names.minio" . }}-0{{- end }}


{{- /*
Jobs: one of each for every revision, as a Job cannot be changed. Who applies what `helm template`
says (Argo CD) has revision 1 for ever: there the digest of chart and values makes it another Job.
*/}}
{{- define "bearloop.names.migrations" -}}
{{ include "bearloop.fullname" . }}-migrations-{{ include "bearloop.names.edition" . }}
{{- end }}
{{- define "bearloop.names.firstTokenJob" -}}
{{ include "bearloop.fullname" . }}-first-token-{{ include "bearloop.names.edition" . }}
{{- end }}
{{- define "bearloop.names.identities" -}}
{{ include "bearloop.fullname" . }}-identities-{{ include "bearloop.names.edition" . }}
{{- end }}
{{- define "bearloop.names.edition" -}}
{{ .Release.Revision }}-{{ list .Chart.Version .Chart.AppVersion .Values | toJson | sha256sum | trunc 5 }}
{{- end }}


{{- /* Settings */}}
{{- define "bearloop.names.settings" -}}{{ include "bearloop.fullname" . }}-settings{{- end }}
{{- define "bearloop.names.cluster" -}}{{ include "bearloop.fullname" . }}-cluster{{- end }}
{{- define "bearloop.names.files" -}}{{ include "bearloop.fullname" . }}-files{{- end }}
{{- define "bearloop.names.owner" -}}{{ include "bearloop.fullname" . }}-owner{{- end }}
{{- define "bearloop.names.powerless" -}}{{ include "bearloop.fullname" . }}-powerless{{- end }}


{{- /* Secrets: the chart's own, or those that the operator names. */}}
{{- define "bearloop.names.firstToken" -}}{{ include "bearloop.fullname" . }}-first-token{{- end }}
{{- define "bearloop.names.firstTokenSecret" -}}
{{ .Values.firstToken.existingSecret | default (include "bearloop.names.firstToken" .) }}
{{- end }}
{{- define "bearloop.names.database" -}}{{ include "bearloop.fullname" . }}-database{{- end }}
{{- define "bearloop.names.databaseSecret" -}}
{{ .Values.database.existingSecret | default (include "bearloop.names.database" .) }}
{{- end }}
{{- define "bearloop.names.storeApi" -}}{{ include "bearloop.fullname" . }}-store-api{{- end }}
{{- define "bearloop.names.storeApiSecret" -}}
{{ .Values.store.existingSecrets.api | default (include "bearloop.names.storeApi" .) }}
{{- end }}
{{- define "bearloop.names.storeJobs" -}}{{ include "bearloop.fullname" . }}-store-jobs{{- end }}
{{- define "bearloop.names.storeJobsSecret" -}}
{{ .Values.store.existingSecrets.jobs | default (include "bearloop.names.storeJobs" .) }}
{{- end }}
{{- define "bearloop.names.storeInference" -}}{{ include "bearloop.fullname" . }}-store-inference{{- end }}
{{- define "bearloop.names.storeInferenceSecret" -}}
{{ .Values.store.existingSecrets.inference | default (include "bearloop.names.storeInference" .) }}
{{- end }}


{{- /* Of the whole cluster: the namespace is part of it, as every namespace may have this release. */}}
{{- define "bearloop.names.nodes" -}}
{{ include "bearloop.fullname" . }}-nodes-{{ sha256sum .Release.Namespace | trunc 8 }}
{{- end }}
