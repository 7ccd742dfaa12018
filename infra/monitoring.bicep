// Logs, their daily cap, and alerts.

import { poisonQueue } from 'names.bicep'

param token string
param insightsName string
param location string
param tags object
param dailyLogCapGB int
param alertEmail string

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: 'log-${token}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
    workspaceCapping: { dailyQuotaGb: dailyLogCapGB }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    WorkspaceResourceId: workspace.id
  }
}

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(alertEmail)) {
  name: 'ag-${token}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'orders'
    emailReceivers: [
      { name: 'mail', emailAddress: alertEmail, useCommonAlertSchema: true }
    ]
  }
}

// Azure has no metric for the length of one queue, only for all queues of an account together. So the alerts look for
// the log line that comes with each message on these queues; a test holds the queries against the lines.
var alerts = [
  {
    name: 'poison'
    title: 'A message went to orders-poison'
    description: 'It failed five times for a reason outside of it. Find the reason, then put it back on orders.'
    query: 'traces | where message contains "Moving message to queue \'${poisonQueue}\'"'
  }
  {
    name: 'quarantine'
    title: 'A message went to orders-quarantine'
    description: 'It can never succeed as it is. The reason is with it.'
    query: 'traces | where message startswith "WARN" and message contains " reason=" and message contains "function=queue_with_idempotency"'
  }
]

resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alert in alerts: {
    name: 'alert-${alert.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.title
      description: alert.description
      severity: 2
      enabled: true
      scopes: [insights.id]
      evaluationFrequency: 'PT15M'
      // Twice the frequency: it may take minutes until a line can be found.
      windowSize: 'PT30M'
      // At the first deployment there is no table to check the query against.
      skipQueryValidation: true
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: { actionGroups: empty(alertEmail) ? [] : [mail.id] }
    }
  }
]
