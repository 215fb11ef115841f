{{- /* What all pods have. Nothing here is more than Pod Security's `restricted` allows. */}}

{{- /* The image of `.program`: by digest where there is one, else by tag. */}}
{{- define "bearloop.image" -}}
{{- $image := .root.Values.image }}
{{- $name := printf "%s/bearloop-%s" $image.registry .program }}
{{- with get $image.digests .program }}
{{- printf "%s@%s" $name . }}
{{- else }}
{{- printf "%s:%s" $name ($image.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* A pod's spec but its containers and volumes; `.user` is 10001 unless said. */}}
{{- define "bearloop.pod" -}}
{{- $user := .user | default 10001 -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- /* Variables for every Service of the namespace would only slow the start. */}}
enableServiceLinks: false
{{- end }}

{{- /* The account of whoever asks Kubernetes for nothing. */}}
{{- define "bearloop.powerless" -}}
serviceAccountName: {{ include "bearloop.names.powerless" . }}
automountServiceAccountToken: false
{{- end }}

{{- /* A container's part of the same; programs write to /scratch only. */}}
{{- define "bearloop.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "bearloop.scratchMount" -}}
- {name: scratch, mountPath: /scratch}
{{- end }}

{{- /* As much as `.size` says, where it says something. */}}
{{- define "bearloop.scratch" -}}
- name: scratch
  emptyDir: {sizeLimit: {{ .size | default "10Gi" }}}
{{- end }}

{{- define "bearloop.filesMount" -}}
- {name: files, mountPath: /files, readOnly: true}
{{- end }}

{{- define "bearloop.filesVolume" -}}
- name: files
  configMap: {name: {{ include "bearloop.names.files" . }}}
{{- end }}

{{- /* Holds a pod back until the schema is at least its image's own. */}}
{{- define "bearloop.schemaGate" -}}
- name: schema
  image: {{ include "bearloop.image" (dict "root" . "program" "api") }}
  command: [python, -m, migrations.wait]
  env:
    {{- include "bearloop.databaseUrl" . | nindent 4 }}
    - {name: BEARLOOP_SCHEMA_WAIT, value: {{ .Values.migrations.schemaWait }}}
  {{- include "bearloop.container" . | nindent 2 }}
  resources:
    {{- toYaml .Values.migrations.resources | nindent 4 }}
  volumeMounts:
    {{- include "bearloop.scratchMount" . | nindent 4 }}
{{- end }}

{{- /* What API and worker are told: settings, the database, the store's identity `api`. */}}
{{- define "bearloop.told" -}}
envFrom:
  - configMapRef: {name: {{ include "bearloop.names.settings" . }}}
  - secretRef: {name: {{ include "bearloop.names.storeApiSecret" . }}}
  {{- with .Values.mlflow.existingSecret }}
  - secretRef: {name: {{ . }}}
  {{- end }}
env:
  {{- include "bearloop.databaseUrl" . | nindent 2 }}
{{- end }}

{{- define "bearloop.databaseUrl" -}}
- name: BEARLOOP_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ include "bearloop.names.databaseSecret" . }}, key: program-url}}
{{- end }}

{{- /* A change of these restarts who reads them at its start only. */}}
{{- define "bearloop.checksums" -}}
checksum/settings: {{ include "bearloop.settings" . | sha256sum }}
checksum/cluster: {{ include "bearloop.cluster" . | sha256sum }}
{{- end }}
