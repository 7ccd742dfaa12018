// Everything that the handler needs in Azure, in a resource group of its own: `azd up`, or
//   az deployment sub create --location westeurope --template-file infra/main.bicep \
//     --parameters environmentName=orders location=westeurope
// There is no key and no password: the app, its deployment and people use identities.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Names the resource group, and everything in it through a hash.')
param environmentName string

@minLength(1)
@description('A region that has Flex Consumption: az functionapp list-flexconsumption-locations')
param location string

@description('Object id of who may enqueue orders and read the records, as with Storage Explorer. Empty for nobody.')
param userPrincipalId string = deployer().objectId

@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
@description('How many copies of the records there are, and where. Standard_ZRS survives the loss of a data centre.')
param storageSku string = 'Standard_LRS'

@allowed([512, 2048, 4096])
@description('Memory of one instance, in MB: what the app is billed by. The handler needs a fraction of the least.')
param instanceMemoryMB int = 512

@minValue(40)
@maxValue(1000)
@description('The most instances that work at the same time.')
param maximumInstanceCount int = 40

@minValue(1)
@description('After so many GB of logs in a day the rest of the day is not logged, and no alert fires.')
param dailyLogCapGB int = 1

@description('Who gets a mail when a message is poisoned or quarantined. Empty for nobody; the portal shows it.')
param alertEmail string = ''

@description('Whose workflow deploys, as GitHub tells Azure: owner@id/name@id, or owner/name. Empty when none does.')
param githubRepository string = ''

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }

resource group 'Microsoft.Resources/resourceGroups@2024-07-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: group
  params: {
    name: 'id-${token}'
    location: location
    tags: tags
  }
}

module storage 'storage.bicep' = {
  scope: group
  params: {
    name: 'st${token}'
    location: location
    tags: tags
    sku: storageSku
  }
}

module monitoring 'monitoring.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    dailyLogCapGB: dailyLogCapGB
    alertEmail: alertEmail
  }
}

module access 'access.bicep' = {
  scope: group
  params: {
    storageName: storage.outputs.name
    insightsName: monitoring.outputs.insightsName
    appPrincipalId: identity.outputs.principalId
    userPrincipalId: userPrincipalId
  }
}

module app 'app.bicep' = {
  scope: group
  // The app needs its rights when it starts.
  dependsOn: [access]
  params: {
    name: 'func-${token}'
    location: location
    tags: tags
    storageName: storage.outputs.name
    insightsName: monitoring.outputs.insightsName
    identityName: identity.outputs.name
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
  }
}

module pipeline 'pipeline.bicep' = if (!empty(githubRepository)) {
  scope: group
  params: {
    name: 'id-deploy-${token}'
    location: location
    tags: tags
    appName: app.outputs.name
    planName: app.outputs.planName
    storageName: storage.outputs.name
    githubRepository: githubRepository
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_APP string = app.outputs.name
output AZURE_STORAGE_ACCOUNT string = storage.outputs.name
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_SUBSCRIPTION_ID string = subscription().subscriptionId
@description('Client id of the identity that the workflow deploys with.')
output AZURE_CLIENT_ID string = empty(githubRepository) ? '' : (pipeline!.outputs.clientId)
