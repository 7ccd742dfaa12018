// The identity of the workflow deploy.yml. It has no secret: Azure trusts GitHub's token for the job. It may manage the
// app, which deploying takes, and send an order and read its record, as the smoke test does.
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation

param name string
param location string
param tags object
param appName string
param planName string
param storageName string
param githubRepository string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags

  // For jobs of the environment `production`, which decides who may start one.
  resource github 'federatedIdentityCredentials' = {
    name: 'github'
    properties: {
      issuer: 'https://token.actions.githubusercontent.com'
      subject: 'repo:${githubRepository}:environment:production'
      audiences: ['api://AzureADTokenExchange']
    }
  }
}

// Their names come from the principal, which only exists afterwards: if the identity is deleted and made again, it is
// another principal, and a role assignment cannot change its principal.
module access 'pipeline-access.bicep' = {
  params: {
    principalId: identity.properties.principalId
    appName: appName
    planName: planName
    storageName: storageName
  }
}

output clientId string = identity.properties.clientId
