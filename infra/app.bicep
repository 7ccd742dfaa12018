// The Function App on Flex Consumption, which runs the package `dist/handler.zip`.

import { eventsQueue, packageContainer, table } from 'names.bicep'

param name string
param planName string
param location string
param tags object
param storageName string
param insightsName string
param identityName string
param instanceMemoryMB int
param maximumInstanceCount int
param appSettings object

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  // azd finds the app by the name that azure.yaml gives the service.
  tags: union(tags, { 'azd-service-name': 'handler' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    functionAppConfig: {
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${account.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
    }
    // Without settings: a list here would replace all that there are.
    siteConfig: { minTlsVersion: '1.2' }
  }

  // Nobody can deploy with a password.
  resource scmPassword 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource ftpPassword 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }
}

// What is set before anybody chooses otherwise.
var defaults = {
  IDEMPOTENCY_TABLE: table
  IDEMPOTENCY_TTL_HOURS: '720'
  EVENTS_QUEUE: eventsQueue
  RUST_LOG: 'warn,handler=info'
  // Here and not in host.json, so that the local console shows every line. The rule counts only with this capital A.
  // It drops what the host writes about an invocation that succeeds; what handler and host warn of is never sampled.
  AzureFunctionsJobHost__logging__ApplicationInsights__logLevel__Function: 'Warning'
  AzureFunctionsJobHost__logging__ApplicationInsights__samplingSettings__excludedTypes: 'Trace;Exception'
}

// Where things are, which nobody chooses. The connection is that of host and handler, by endpoints, since the account's
// name works in the public cloud only.
var connections = {
  AzureWebJobsStorage__blobServiceUri: account.properties.primaryEndpoints.blob
  AzureWebJobsStorage__queueServiceUri: account.properties.primaryEndpoints.queue
  AzureWebJobsStorage__tableServiceUri: account.properties.primaryEndpoints.table
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
}

// The settings are written whole. Those in Azure win over the defaults: a retention that was raised, or a table that was
// chosen there, does not go back without a word, which would make the app forget ids. A module of its own, since a
// resource cannot wait for what it is itself.
module settings 'settings.bicep' = {
  params: {
    appName: app.name
    settings: union(defaults, list('${app.id}/config/appsettings', '2025-03-01').properties, connections, appSettings)
  }
}
