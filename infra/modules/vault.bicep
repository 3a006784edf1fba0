// The secrets of the control plane. The app reads them by reference, with its identity; nothing else may.
// Purge protection is on: the wrapping key is needed for as long as there is a cluster.

param name string
param location string
param tags object
param locked bool

@description('The control plane\'s identity.')
param principalId string

@secure()
param wrappingKey string

@secure()
param wrappingKeyPrevious string

@secure()
param alertWebhooks string

param witnessName string

// Built-in role: Key Vault Secrets User.
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource witness 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: witnessName
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: locked ? 'Deny' : 'Allow'
    }
  }
}

// Written only when given: a deployment without it leaves the key alone.
resource wrappingKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(wrappingKey)) {
  parent: vault
  name: 'wrapping-key'
  properties: {
    contentType: 'base64 of 32 bytes'
    value: wrappingKey
  }
}

resource previousKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(wrappingKeyPrevious)) {
  parent: vault
  name: 'wrapping-key-previous'
  properties: {
    contentType: 'base64 of 32 bytes'
    value: wrappingKeyPrevious
  }
}

resource webhooksSecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(alertWebhooks)) {
  parent: vault
  name: 'alert-webhooks'
  properties: {
    contentType: 'application/json'
    value: alertWebhooks
  }
}

// A deployment after a rotation of the account's key brings the new one.
resource witnessSecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  parent: vault
  name: 'witness-storage'
  properties: {
    contentType: 'connection string'
    value: 'DefaultEndpointsProtocol=https;AccountName=${witness.name};AccountKey=${witness.listKeys().keys[0].value};EndpointSuffix=${environment().suffixes.storage}'
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, principalId, secretsUser)
  scope: vault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

output name string = vault.name
output uri string = vault.properties.vaultUri
