{{- /* Labels of everything, as pairs of a flow mapping. */ -}}
{{- define "power-manager.labels" -}}
app.kubernetes.io/part-of: kubernetes-power-manager, app.kubernetes.io/managed-by: {{ .Release.Service }}, app.kubernetes.io/instance: {{ .Release.Name | quote }}, app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}, helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "power-manager.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "power-manager.agentImage" -}}
{{ .Values.agents.image | default (include "power-manager.image" .) }}
{{- end }}

{{- /* What the agents may run, as a list of the admission policy's language. */ -}}
{{- define "power-manager.allowed" -}}
['{{ prepend .Values.agents.imagesAllowed (include "power-manager.agentImage" .) | join "', '" }}']
{{- end }}

{{- define "power-manager.privileged" -}}
{{ or .Values.agents.privileged .Values.agents.hsmp }}
{{- end }}

{{- define "power-manager.scraper" -}}
name: {{ .Values.monitoring.prometheus.name }}, namespace: {{ .Values.monitoring.prometheus.namespace }}
{{- end }}

{{- define "power-manager.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- {name: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* Security of every container of this chart: no privilege, no capability, nothing is written. */ -}}
{{- define "power-manager.unprivileged" -}}
{{- if not .Values.openshift }}
runAsUser: 65532
{{- end }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* A pod that asks the API server and ends: the hooks. */ -}}
{{- define "power-manager.visitor" -}}
serviceAccountName: power-manager-operator
{{- include "power-manager.pullSecrets" .root }}
restartPolicy: Never
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.operator.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .root.Values.operator.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
containers:
- name: {{ .name }}
  image: {{ include "power-manager.image" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ toJson .args }}
  env:
  - name: KPM_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - {name: KPM_GROUP, value: {{ .root.Values.group | quote }}}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 256Mi}
  securityContext:
    {{- include "power-manager.unprivileged" .root | nindent 4 }}
{{- end }}
