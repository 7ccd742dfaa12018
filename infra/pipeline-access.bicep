// The rights of the identity of deploy.yml.

import { ordersQueue, table } from 'names.bicep'

param principalId string
param appName string
param planName string
param storageName string

// Website Contributor
var websiteContributor = 'de139f84-1756-47ae-9be6-808fbbe84772'
// Reader
var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'
// Storage Queue Data Message Sender
var queueSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
// Storage Table Data Reader
var tableReader = '76199698-9eea-4c19-bc75-cec21354c6b6'

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' existing = {
  name: planName
}

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName

  resource queueService 'queueServices' existing = {
    name: 'default'
    resource orders 'queues' existing = { name: ordersQueue }
  }

  resource tableService 'tableServices' existing = {
    name: 'default'
    resource records 'tables' existing = { name: table }
  }
}

resource mayDeploy 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(app.id, principalId, websiteContributor)
  scope: app
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', websiteContributor)
  }
}

// The command line reads the plan of the app before it deploys, and waits when it may not.
resource mayLook 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(plan.id, principalId, reader)
  scope: plan
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
  }
}

resource maySend 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account::queueService::orders.id, principalId, queueSender)
  scope: account::queueService::orders
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', queueSender)
  }
}

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account::tableService::records.id, principalId, tableReader)
  scope: account::tableService::records
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableReader)
  }
}
