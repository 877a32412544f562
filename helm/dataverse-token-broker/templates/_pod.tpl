{{/* The pod, the same under a StatefulSet (SQLite) and a Deployment (PostgreSQL). */}}
{{- define "broker.pod" -}}
{{- include "broker.refusals" . -}}
{{- $sqlite := eq .Values.audit.store "sqlite" -}}
metadata:
  labels:
    {{- include "broker.labels" . | nindent 4 }}
    {{- if .Values.workloadIdentity.enabled }}
    azure.workload.identity/use: "true"
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "broker.serviceAccountName" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  # A Service named `broker` would put BROKER_PORT=tcp://… into every pod beside it, and that
  # is a setting of this program.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
    runAsNonRoot: true
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: broker
      image: {{ include "broker.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      ports:
        - name: {{ include "broker.scheme" . }}
          containerPort: {{ .Values.port }}
      env:
        {{- include "broker.env" . | nindent 8 }}
      {{- with .Values.secretEnv }}
      envFrom:
        {{- range . }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      # Alive depends on nothing, so a slow Entra restarts no pod. Ready waits for the
      # configuration, a writable record and, for a bounded time, the first schema.
      startupProbe:
        httpGet: {path: /livez, port: {{ include "broker.scheme" . }}, scheme: {{ include "broker.scheme" . | upper }}}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: {{ include "broker.scheme" . }}, scheme: {{ include "broker.scheme" . | upper }}}
        periodSeconds: 10
        timeoutSeconds: 3
      readinessProbe:
        httpGet: {path: /readyz, port: {{ include "broker.scheme" . }}, scheme: {{ include "broker.scheme" . | upper }}}
        periodSeconds: 5
        timeoutSeconds: 3
      {{- if .Values.preStopSeconds }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ .Values.preStopSeconds | quote }}]
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/token-broker
          readOnly: true
        - name: state
          mountPath: /var/lib/token-broker
        - name: tmp
          mountPath: /tmp
        {{- with .Values.signingKey.existingSecret }}
        - name: signing-key
          mountPath: /run/token-broker/signing-key
          readOnly: true
        {{- end }}
        {{- with .Values.tls.existingSecret }}
        - name: tls
          mountPath: /run/token-broker/tls
          readOnly: true
        {{- end }}
        {{- range $i, $mount := .Values.secretMounts }}
        - name: secret-{{ $i }}
          mountPath: {{ $mount.mountPath | default (printf "/run/secrets/%s" $mount.name) }}
          readOnly: true
        {{- end }}
        {{- range $i, $mount := .Values.configMapMounts }}
        - name: config-{{ $i }}
          mountPath: {{ $mount.mountPath | default (printf "/run/config/%s" $mount.name) }}
          readOnly: true
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "broker.configMapName" . }}
    {{- if not $sqlite }}
    - name: state
      emptyDir: {}
    {{- else if .Values.audit.sqlite.existingClaim }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ .Values.audit.sqlite.existingClaim }}
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with .Values.signingKey.existingSecret }}
    - name: signing-key
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- range $i, $mount := .Values.secretMounts }}
    - name: secret-{{ $i }}
      secret:
        secretName: {{ $mount.name }}
        defaultMode: 0440
    {{- end }}
    {{- range $i, $mount := .Values.configMapMounts }}
    - name: config-{{ $i }}
      configMap:
        name: {{ $mount.name }}
    {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "broker.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* docs/settings.md says what each one means; a test compares the two. */}}
{{- define "broker.env" -}}
- name: BROKER_CONFIG
  value: /etc/token-broker
- name: BROKER_HOST
  value: {{ .Values.listenAddress | quote }}
- name: BROKER_PORT
  value: {{ .Values.port | quote }}
- name: BROKER_WORKERS
  value: {{ .Values.workers | quote }}
- name: BROKER_DRAIN_S
  value: {{ .Values.drainSeconds | quote }}
- name: BROKER_STATE_DIR
  value: /var/lib/token-broker
- name: BROKER_LOG_LEVEL
  value: {{ .Values.log.level }}
- name: BROKER_LOG_FORMAT
  value: {{ .Values.log.format }}
- name: BROKER_AUDIT_URL
  {{- if eq .Values.audit.store "sqlite" }}
  value: sqlite:////var/lib/token-broker/audit.db
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.audit.postgresql.existingSecret }}
      key: {{ .Values.audit.postgresql.key }}
  {{- end }}
{{- with .Values.audit.retention }}
- name: BROKER_AUDIT_RETENTION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.audit.anchorFile }}
- name: BROKER_AUDIT_ANCHOR_FILE
  value: {{ . | quote }}
{{- end }}
- name: BROKER_AUDIT_STDOUT
  value: {{ .Values.audit.stdout | quote }}
{{- if .Values.audit.webhook.existingSecret }}
- name: BROKER_AUDIT_WEBHOOK_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.audit.webhook.existingSecret }}
      key: {{ .Values.audit.webhook.key }}
{{- end }}
{{- if .Values.signingKey.existingSecret }}
- name: BROKER_SIGNING_KEY_FILE
  value: /run/token-broker/signing-key/{{ .Values.signingKey.key }}
{{- end }}
{{- if .Values.redis.existingSecret }}
- name: BROKER_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.key }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: BROKER_TLS_CERT_FILE
  value: /run/token-broker/tls/tls.crt
- name: BROKER_TLS_KEY_FILE
  value: /run/token-broker/tls/tls.key
{{- end }}
{{- with .Values.trustedProxies }}
- name: BROKER_TRUSTED_PROXIES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
