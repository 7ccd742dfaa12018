// Logs, their daily cap, and alerts.

import { eventsQueue, ordersQueue, poisonQueue, quarantineQueue } from 'names.bicep'

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
// lines of the handler, which a test holds against the queries; the newest state is what counts.
var anyState = 'traces | where message matches regex "^(WARN )?State: "'
var state = '${anyState} | top 1 by timestamp | where '
var age = 'extract(" oldest_s=([0-9]+)", 1, message, typeof(long)) > 900'
var eventsAge = 'extract(" unpublished_oldest_s=([0-9]+)", 1, message, typeof(long)) > 900'

var alerts = [
  {
    name: 'set-aside'
    title: 'Orders are set aside'
    description: 'Messages are on ${quarantineQueue} or ${poisonQueue}. Each has its reason with it.'
    query: '${state}message matches regex " (${quarantineQueue}|${poisonQueue})=[1-9]"'
    lines: 0
  }
  {
    name: 'backlog'
    title: 'Orders wait'
    description: 'More than 10,000 messages are on ${ordersQueue}, or the oldest that can be seen is more than 15 minutes old.'
    query: '${state}extract(" ${ordersQueue}=([0-9]+)", 1, message, typeof(long)) > 10000 or ${age}'
    lines: 0
  }
  {
    name: 'events'
    title: 'Events wait'
    description: 'More than 10,000 messages are on ${eventsQueue}, or a committed event has been unpublished for more than 15 minutes.'
    query: '${state}extract(" ${eventsQueue}=([0-9]+)", 1, message, typeof(long)) > 10000 or ${eventsAge}'
    lines: 0
  }
  {
    name: 'away'
    title: 'Storage is away'
    description: 'The handler holds orders or gives them back. The line says since when, and the last error.'
    query: 'traces | where message startswith "WARN Storage away: " or message startswith "WARN Given back: " or message matches regex "^(WARN )?State: .* given_back=[1-9]"'
    lines: 0
  }
  {
    name: 'timer-fails'
    title: 'The timer fails'
    description: 'At least four attempts failed, which is a tick with all its retries. The lines say why.'
    query: 'traces | where message startswith "ERROR Invocation failed: " and message contains " function=scheduled_with_retry "'
    lines: 3
  }
  {
    name: 'timer-silent'
    title: 'The timer says nothing'
    description: 'No state for 30 minutes: the app does not run, its logs do not arrive, or the daily cap is reached. Until the next state no other alert is to be trusted.'
    query: '${anyState} | summarize states = count() | where states == 0'
    lines: 0
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
      // Twice the frequency: it may take minutes until a line can be found. The alert stays active while this finds it.
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
            threshold: alert.lines
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
