{{- /* Values that contradict each other, or lack something: refused with the key and the way out. */}}

{{- define "bearloop.refusals" -}}
{{- $v := .Values }}
{{- $store := dict "store.url" $v.store.url "store.endpoint" $v.store.endpoint "store.existingSecrets.api" $v.store.existingSecrets.api "store.existingSecrets.jobs" $v.store.existingSecrets.jobs "store.existingSecrets.inference" $v.store.existingSecrets.inference }}

{{- if not $v.image.registry }}
{{- fail "image.registry is empty: name where bearloop-{api,trainer,inference,mlflow} are, e.g. registry.example.org/team" }}
{{- end }}

{{- /* The database */}}
{{- if and $v.postgresql.enabled $v.database.existingSecret }}
{{- fail (printf "database.existingSecret is %q while postgresql.enabled is true: the chart's own PostgreSQL has a Secret of its own; leave one of them out" $v.database.existingSecret) }}
{{- end }}
{{- if not (or $v.postgresql.enabled $v.database.existingSecret) }}
{{- fail "database.existingSecret is empty: name a Secret with owner-url and program-url, or set postgresql.enabled for an evaluation" }}
{{- end }}
{{- if and $v.postgresql.enabled (has $v.database.programRole (list "bearloop_owner" "mlflow" "postgres")) }}
{{- fail (printf "database.programRole is %q, which the chart's own PostgreSQL has for something else: take another name" $v.database.programRole) }}
{{- end }}

{{- /* The store */}}
{{- range $key, $value := $store }}
{{- if and $v.minio.enabled $value }}
{{- fail (printf "%s is %q while minio.enabled is true: the chart's own MinIO is the store then; leave one of them out" $key $value) }}
{{- end }}
{{- if and (not $v.minio.enabled) (not $value) (ne $key "store.endpoint") }}
{{- fail (printf "%s is empty: the store needs an address and a Secret for each of its three identities; or set minio.enabled for an evaluation" $key) }}
{{- end }}
{{- end }}

{{- /* Who signs in there stands in a Secret: these go into ConfigMaps, jobs and what they say of errors. */}}
{{- if regexMatch "^https?://[^/]*@" $v.store.endpoint }}
{{- fail "store.endpoint holds a sign-in, before its @, which anybody would read: put the keys into Secrets, which store.existingSecrets name" }}
{{- end }}
{{- if regexMatch "^https?://[^/]*@" $v.mlflow.url }}
{{- fail "mlflow.url holds a sign-in, before its @, which anybody would read: put it into a Secret, which mlflow.existingSecret names" }}
{{- end }}

{{- /* MLflow */}}
{{- if and $v.mlflow.enabled $v.mlflow.url }}
{{- fail (printf "mlflow.url is %q while mlflow.enabled is true: set mlflow.enabled to false to use that server" $v.mlflow.url) }}
{{- end }}
{{- if and $v.mlflow.enabled $v.mlflow.existingSecret }}
{{- fail (printf "mlflow.existingSecret is %q while mlflow.enabled is true: it is the sign-in of a server of yours, which mlflow.url names" $v.mlflow.existingSecret) }}
{{- end }}
{{- if not (or $v.mlflow.enabled $v.mlflow.url) }}
{{- fail "mlflow.url is empty while mlflow.enabled is false: runs need a tracking server; name yours, or enable the chart's own" }}
{{- end }}

{{- /* The API from outside */}}
{{- if and $v.ingress.enabled $v.gateway.enabled }}
{{- fail "ingress.enabled and gateway.enabled are both true: take one way in" }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.host) }}
{{- fail "ingress.host is empty while ingress.enabled is true: say the API's name, e.g. bearloop.example.org" }}
{{- end }}
{{- if and $v.gateway.enabled (not $v.gateway.parents) }}
{{- fail "gateway.parents is empty while gateway.enabled is true: name the Gateway, e.g. [{name: public, namespace: gateways}]" }}
{{- end }}
{{- if and $v.api.autoscaling.enabled (gt (int $v.api.autoscaling.minReplicas) (int $v.api.autoscaling.maxReplicas)) }}
{{- fail (printf "api.autoscaling.minReplicas is %d, more than api.autoscaling.maxReplicas, which is %d" (int $v.api.autoscaling.minReplicas) (int $v.api.autoscaling.maxReplicas)) }}
{{- end }}

{{- if gt (float64 $v.settings.maxUpload) (include "bearloop.bytes" $v.api.scratch | float64) }}
{{- fail (printf "settings.maxUpload is %.0f, more bytes than api.scratch holds, which is %s: an upload lies there first; make one fit the other" (float64 $v.settings.maxUpload) $v.api.scratch) }}
{{- end }}

{{- /* Durations */}}
{{- range $name, $value := $v.settings }}
{{- if and (kindIs "string" $value) (not (include "bearloop.seconds" $value | float64)) }}
{{- fail (printf "settings.%s is %q, no time at all: give it more, e.g. PT10S" $name $value) }}
{{- end }}
{{- end }}
{{- if gt (include "bearloop.seconds" $v.inference.scaleInAfter | float64) 3600.0 }}
{{- fail (printf "inference.scaleInAfter is %q, more than the hour that Kubernetes takes: give it PT1H or less" $v.inference.scaleInAfter) }}
{{- end }}
{{- if ge (include "bearloop.seconds" $v.settings.callDeadline | float64) (include "bearloop.seconds" $v.settings.lease | float64) }}
{{- fail (printf "settings.callDeadline is %q, no less than settings.lease, which is %q: nothing would ever be launched" $v.settings.callDeadline $v.settings.lease) }}
{{- end }}

{{- /* The owner of all that runs: another name would end every job and endpoint. */}}
{{- $owner := include "bearloop.names.owner" . }}
{{- range (lookup "v1" "ConfigMap" .Release.Namespace "").items }}
{{- $labels := .metadata.labels | default dict }}
{{- if and (eq (get $labels "app.kubernetes.io/name") $.Chart.Name) (eq (get $labels "app.kubernetes.io/instance") $.Release.Name) (hasSuffix "-owner" .metadata.name) (ne .metadata.name $owner) }}
{{- fail (printf "nameOverride is %q, and would rename what release %s has: %s would become %s, and every job and endpoint would end with it; leave it as it was" $v.nameOverride $.Release.Name .metadata.name $owner) }}
{{- end }}
{{- end }}

{{- /* Secrets that are named and missing; without a cluster (`helm template`) nobody can tell. */}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" }}
{{- $named := dict "database.existingSecret" (dict "name" $v.database.existingSecret "keys" (list "owner-url" "program-url")) }}
{{- if $v.mlflow.enabled }}
{{- $_ := set $named "database.existingSecret" (dict "name" $v.database.existingSecret "keys" (list "owner-url" "program-url" "mlflow-url")) }}
{{- end }}
{{- $_ := set $named "firstToken.existingSecret" (dict "name" $v.firstToken.existingSecret "keys" (list "token")) }}
{{- $_ := set $named "mlflow.existingSecret" (dict "name" $v.mlflow.existingSecret "keys" list) }}
{{- range $identity, $name := $v.store.existingSecrets }}
{{- $_ := set $named (print "store.existingSecrets." $identity) (dict "name" $name "keys" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) }}
{{- end }}
{{- with $v.caBundle }}
{{- if not (hasKey ((lookup "v1" "ConfigMap" $.Release.Namespace .).data | default dict) "ca.crt") }}
{{- fail (printf "caBundle: there is no ConfigMap %q with the key ca.crt in namespace %s; create it" . $.Release.Namespace) }}
{{- end }}
{{- end }}
{{- range $key, $wanted := $named }}
{{- if $wanted.name }}
{{- $found := lookup "v1" "Secret" $.Release.Namespace $wanted.name }}
{{- if not $found }}
{{- fail (printf "%s: there is no Secret %q in namespace %s; create it%s" $key $wanted.name $.Release.Namespace (empty $wanted.keys | ternary "" (print " with the keys " (join ", " $wanted.keys)))) }}
{{- end }}
{{- range $wanted.keys }}
{{- if not (hasKey ($found.data | default dict) .) }}
{{- fail (printf "%s: Secret %q has no key %s; it needs %s" $key $wanted.name . (join ", " $wanted.keys)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The bytes of a quantity. */}}
{{- define "bearloop.bytes" -}}
{{- $unit := regexFind "[A-Za-z]+$" . }}
{{- $bytes := float64 (trimSuffix $unit .) }}
{{- $powers := dict "k" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 }}
{{- range until (get $powers (trimSuffix "i" $unit | replace "K" "k") | int) }}
{{- $bytes = mulf $bytes (hasSuffix "i" $unit | ternary 1024 1000) }}
{{- end }}
{{- eq $unit "m" | ternary 0.0 $bytes }}
{{- end }}

{{- /* The seconds of a duration by ISO 8601, as far as the schema lets it through: no months, no years. */}}
{{- define "bearloop.seconds" -}}
{{- $text := . }}
{{- $seconds := 0.0 }}
{{- range $unit, $each := dict "D" 86400 "H" 3600 "M" 60 "S" 1 }}
{{- $amount := regexFind (print "[0-9.]+" $unit) $text | trimSuffix $unit }}
{{- $seconds = addf $seconds (mulf (float64 $amount) $each) }}
{{- end }}
{{- $seconds }}
{{- end }}
