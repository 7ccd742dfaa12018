// The rights to the data: each principal gets what it needs, and nothing else.
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles

import { eventsQueue, ordersQueue, poisonQueue, quarantineQueue } from 'names.bicep'

param storageName string
param insightsName string
param appPrincipalId string
param userPrincipalId string

// Storage Blob Data Owner
var blobOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
// Storage Queue Data Contributor
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
// Storage Queue Data Reader
var queueReader = '19e7f393-937e-4f77-808e-94535e297925'
// Storage Queue Data Message Sender
var queueSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
// Storage Table Data Contributor
var tableContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
// Monitoring Metrics Publisher
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName

  resource queueService 'queueServices' existing = {
    name: 'default'
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// For the whole account: the host creates containers for its locks, keys and timer state, beside that of the package.
resource appBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, blobOwner)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobOwner)
  }
}

// On `orders` the host takes and deletes messages, and makes a failed one visible again, which is an update; the handler
// puts back what it holds. On `orders-poison` the host puts, and the timer takes, puts and deletes. On the others the app
// only puts. The timer asks each for its length, which a sender may not.
var queueRights = [
  { queue: ordersQueue, role: queueContributor }
  { queue: poisonQueue, role: queueContributor }
  { queue: quarantineQueue, role: queueSender }
  { queue: quarantineQueue, role: queueReader }
  { queue: eventsQueue, role: queueSender }
  { queue: eventsQueue, role: queueReader }
]

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = [
  for right in queueRights: {
    parent: account::queueService
    name: right.queue
  }
]

resource appQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (right, index) in queueRights: {
    name: guid(account.id, right.queue, appPrincipalId, right.role)
    scope: queues[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', right.role)
    }
  }
]

// For the whole account: the host writes its diagnostic events into a table for each month.
resource appTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, tableContributor)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableContributor)
  }
}

resource appTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, appPrincipalId, metricsPublisher)
  scope: insights
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}

// The keys are off, so even the owner of the subscription needs these for Storage Explorer. Azure finds out by itself
// whether the principal is a person or a pipeline.
resource userQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(account.id, userPrincipalId, queueContributor)
  scope: account
  properties: {
    principalId: userPrincipalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', queueContributor)
  }
}

resource userTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(userPrincipalId)) {
  name: guid(account.id, userPrincipalId, tableContributor)
  scope: account
  properties: {
    principalId: userPrincipalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableContributor)
  }
}
