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
  - name: {{ . | quote }}
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
priorityClassName: {{ . | quote }}
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

{{- /*
The Secret of the database as files, the keys `.keys` of it: who waits for the database reads them at
each look, so that a Secret that is mended meanwhile needs no restart.
*/}}
{{- define "bearloop.databaseMount" -}}
- {name: database, mountPath: /database, readOnly: true}
{{- end }}

{{- define "bearloop.databaseVolume" -}}
- name: database
  secret:
    secretName: {{ include "bearloop.names.databaseSecret" .root | quote }}
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}

{{- /* Holds a pod back until the schema is at least its image's own. */}}
{{- define "bearloop.schemaGate" -}}
- name: schema
  image: {{ include "bearloop.image" (dict "root" . "program" "api") }}
  command: [python, -m, migrations.wait]
  env:
    - {name: BEARLOOP_DATABASE_URL_FILE, value: /database/program-url}
    {{- with .Values.migrations.schemaWait }}
    - {name: BEARLOOP_SCHEMA_WAIT, value: {{ . }}}
    {{- end }}
    {{- include "bearloop.variables" (dict "root" .) | trim | nindent 4 }}
  {{- include "bearloop.container" . | nindent 2 }}
  resources:
    {{- toYaml .Values.migrations.resources | nindent 4 }}
  volumeMounts:
    {{- include "bearloop.scratchMount" . | nindent 4 }}
    {{- include "bearloop.caMount" . | trim | nindent 4 }}
    {{- include "bearloop.databaseMount" . | nindent 4 }}
{{- end }}

{{- define "bearloop.schemaGateVolume" -}}
{{- include "bearloop.databaseVolume" (dict "root" . "keys" (list "program-url")) }}
{{- end }}

{{- /*
What API and worker are told: settings, the database, the store's identity `api`; and the operator's
further variables, `.own`.
*/}}
{{- define "bearloop.told" -}}
envFrom:
  - configMapRef: {name: {{ include "bearloop.names.settings" .root }}}
  - secretRef: {name: {{ include "bearloop.names.storeApiSecret" .root | quote }}}
  {{- with .root.Values.mlflow.existingSecret }}
  - secretRef: {name: {{ . | quote }}}
  {{- end }}
env:
  {{- include "bearloop.databaseUrl" .root | nindent 2 }}
  {{- include "bearloop.variables" . | trim | nindent 2 }}
{{- end }}

{{- /* Whom to trust, and the operator's further variables, `.own`. */}}
{{- define "bearloop.variables" -}}
{{- range $name, $value := merge (dict) (.own | default dict) (include "bearloop.caVariables" .root | fromJson) }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /*
The certificates that are trusted in place of the image's own: by boto3, requests, OpenSSL and
PostgreSQL's client. Jobs and endpoints have the same by api/cluster/pod_objects.py.
*/}}
{{- define "bearloop.caVariables" -}}
{{- $variables := dict }}
{{- if .Values.caBundle }}
{{- range tuple "AWS_CA_BUNDLE" "REQUESTS_CA_BUNDLE" "SSL_CERT_FILE" "PGSSLROOTCERT" }}
{{- $_ := set $variables . "/etc/bearloop-ca/ca.crt" }}
{{- end }}
{{- end }}
{{- toJson $variables }}
{{- end }}

{{- define "bearloop.caMount" -}}
{{- if .Values.caBundle }}
- {name: ca-bundle, mountPath: /etc/bearloop-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "bearloop.caVolume" -}}
{{- with .Values.caBundle }}
- name: ca-bundle
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "bearloop.databaseUrl" -}}
- name: BEARLOOP_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ include "bearloop.names.databaseSecret" . | quote }}, key: program-url}}
{{- end }}

{{- /* A change of these restarts who reads them at its start only. */}}
{{- define "bearloop.checksums" -}}
checksum/settings: {{ include "bearloop.settings" . | sha256sum }}
checksum/cluster: {{ include "bearloop.cluster" . | sha256sum }}
{{- end }}
