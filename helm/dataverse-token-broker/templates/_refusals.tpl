{{/* What would start and then fail, or lose records, is refused here, with the remedy. */}}
{{- define "broker.refusals" -}}
{{- if eq .Values.audit.store "sqlite" -}}
  {{- if or (gt (int .Values.replicaCount) 1) .Values.autoscaling.enabled -}}
    {{- fail "audit.store sqlite has one writer: set replicaCount 1 and autoscaling.enabled false, or audit.store postgresql" -}}
  {{- end -}}
{{- else -}}
  {{- if not .Values.audit.postgresql.existingSecret -}}
    {{- fail "audit.store postgresql needs audit.postgresql.existingSecret: a Secret whose key `url` is postgresql://user:password@host/database" -}}
  {{- end -}}
  {{- if not .Values.signingKey.existingSecret -}}
    {{- fail "audit.store postgresql needs signingKey.existingSecret: replicas sign with one key, and no volume keeps one" -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.config.existingConfigMap .Values.config.files -}}
  {{- fail "set config.files or config.existingConfigMap, not both" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
  {{- fail "ingress.enabled needs ingress.hosts: the names that callers use" -}}
{{- end -}}
{{- if and .Values.workloadIdentity.enabled (not .Values.workloadIdentity.clientId) -}}
  {{- fail "workloadIdentity.enabled needs workloadIdentity.clientId: the application that the service account is federated with" -}}
{{- end -}}
{{- end -}}
