{{- /* Peers that several NetworkPolicies share. */}}

{{- /* Names are resolved by whoever does it in this cluster, so by any address. */}}
{{- define "bearloop.network.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{- /* The store: MinIO in the chart, or wherever the operator says. */}}
{{- define "bearloop.network.store" -}}
{{- if .Values.minio.enabled }}
- to:
    {{- include "bearloop.peers" (dict "root" . "components" (list "minio")) | trim | nindent 4 }}
  ports: [{port: s3}]
{{- else }}
{{- include "bearloop.network.outside" . }}
{{- end }}
{{- end }}

{{- /* MLflow: in the chart, or wherever the operator says. */}}
{{- define "bearloop.network.mlflow" -}}
{{- if .Values.mlflow.enabled }}
- to:
    {{- include "bearloop.peers" (dict "root" . "components" (list "mlflow")) | trim | nindent 4 }}
  ports: [{port: http}]
{{- else }}
{{- include "bearloop.network.outside" . }}
{{- end }}
{{- end }}

{{- define "bearloop.network.outside" -}}
{{- if .Values.networkPolicy.outside }}
- to:
    {{- toYaml .Values.networkPolicy.outside | nindent 4 }}
{{- else }}
- {}
{{- end }}
{{- end }}

{{- /* The world, but no private network: not this cluster, not what is beside it. */}}
{{- define "bearloop.network.world" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        {{- if not .Values.settings.allowPrivateAddresses }}
        except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
        {{- end }}
    - ipBlock:
        cidr: ::/0
        {{- if not .Values.settings.allowPrivateAddresses }}
        except: ["fc00::/7", "fe80::/10"]
        {{- end }}
{{- end }}
