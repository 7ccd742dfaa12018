// Everything that the handler needs in Azure, in a resource group of its own: `azd up`, or
//   az deployment sub create --name orders --location westeurope --template-file infra/main.bicep \
//     --parameters environmentName=orders location=westeurope
// There is no key and no password: the app, its deployment and people use identities.
targetScope = 'subscription'

@minLength(1)
@maxLength(64)
@description('Names the resource group, and everything in it through a hash. No full stop at its end.')
param environmentName string

@minLength(1)
@description('A region that has Flex Consumption: az functionapp list-flexconsumption-locations')
param location string

@description('Object id of who may enqueue orders and read the records, as with Storage Explorer. Empty for nobody.')
param userPrincipalId string = deployer().objectId

@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
@description('Copies of the records. Standard_ZRS survives the loss of a data centre, and needs a region with zones.')
param storageSku string = 'Standard_ZRS'

@allowed([512, 2048, 4096])
@description('Memory of one instance, in MB: what the app is billed by. The handler needs a fraction of the least.')
param instanceMemoryMB int = 512

@minValue(1)
@maxValue(1000)
@description('The most instances of each function. In some regions 40 is the least.')
param maximumInstanceCount int = 40

@description('Settings of the app. They win over those in Azure, of which all others stay.')
param appSettings object = {}

@minValue(1)
@description('After so many GB of logs in a day the rest is not logged, and only the alert on a silent timer fires.')
param dailyLogCapGB int = 1

@description('Who gets a mail when an alert fires, and when it is resolved. Empty for nobody; the portal shows it.')
param alertEmail string = ''

@description('Whose workflow deploys, as GitHub tells Azure: owner@id/name@id, or owner/name. Empty when none does.')
param githubRepository string = ''

// Azure takes `Orders` and `orders` for the same group, and `West Europe` and `westeurope` for the same region.
var region = toLower(replace(location, ' ', ''))
var token = toLower(uniqueString(subscription().id, toLower(environmentName), region))
var tags = { 'azd-env-name': environmentName }

// Known before anything is there, so that `what-if` can look into the modules.
var storageName = 'st${token}'
var insightsName = 'appi-${token}'
var identityName = 'id-${token}'
var appName = 'func-${token}'
var planName = 'plan-func-${token}'

resource group 'Microsoft.Resources/resourceGroups@2024-07-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: group
  params: {
    name: identityName
    location: location
    tags: tags
  }
}

module storage 'storage.bicep' = {
  scope: group
  params: {
    name: storageName
    location: location
    tags: tags
    sku: storageSku
  }
}

module monitoring 'monitoring.bicep' = {
  scope: group
  params: {
    token: token
    insightsName: insightsName
    location: location
    tags: tags
    dailyLogCapGB: dailyLogCapGB
    alertEmail: alertEmail
  }
}

module access 'access.bicep' = {
  scope: group
  dependsOn: [storage, monitoring]
  params: {
    storageName: storageName
    insightsName: insightsName
    appPrincipalId: identity.outputs.principalId
    userPrincipalId: userPrincipalId
  }
}

module app 'app.bicep' = {
  scope: group
  // The app needs its rights when it starts, and everything that those wait for.
  dependsOn: [access]
  params: {
    name: appName
    planName: planName
    location: location
    tags: tags
    storageName: storageName
    insightsName: insightsName
    identityName: identityName
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    appSettings: appSettings
  }
}

module pipeline 'pipeline.bicep' = if (!empty(githubRepository)) {
  scope: group
  dependsOn: [app]
  params: {
    name: 'id-deploy-${token}'
    location: location
    tags: tags
    appName: appName
    planName: planName
    storageName: storageName
    githubRepository: githubRepository
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_APP string = appName
output AZURE_STORAGE_ACCOUNT string = storageName
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_SUBSCRIPTION_ID string = subscription().subscriptionId
@description('Client id of the identity that the workflow deploys with.')
output AZURE_CLIENT_ID string = empty(githubRepository) ? '' : (pipeline!.outputs.clientId)
