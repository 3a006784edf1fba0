// Everything the control plane runs on, in one resource group, and its role for the clusters in the subscription.
//
// One user-assigned identity does all the work; no key of the host's storage account exists (shared keys are off).
// A second storage account has keys, known to Key Vault alone: the witness rows and Event Grid's dead letters cannot do
// without (modules/witness.bicep says why).
targetScope = 'resourceGroup'

@description('Region of the control plane. Clusters may be in any region.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags object = {}

@description('Base64 of 32 random bytes; protects the certificate authorities of all clusters. Empty keeps the key that the vault holds already. To replace it, give the old one as wrappingKeyPrevious in the same deployment.')
@secure()
param wrappingKey string = ''

@description('The wrapping key that wrappingKey replaces, for as long as anything is wrapped with it (docs/security.md). Empty: none.')
@secure()
param wrappingKeyPrevious string = ''

@description('SHA-256 of the first administrator token, 64 hexadecimal digits. Empty: no such token (any more).')
param bootstrapTokenSha256 string = ''

@description('URL of a package (zip of tools/package.py) to install; empty: the code is deployed afterwards.')
@secure()
param packageUri string = ''

@description('File name of the agent\'s wheel inside the package, below dist/.')
param agentWheel string = 'mirror_agent-0.1.0-py3-none-any.whl'

@description('public: no network of its own. nat: outbound calls come from one fixed address, so that nodes can be probed. private: the same, and storage and vault are reached through private endpoints only.')
@allowed(['public', 'nat', 'private'])
param networking string = 'public'

@description('Address range of the control plane\'s own network, /24 or larger; unused with networking=public.')
param addressSpace string = '10.90.0.0/24'

@description('Redundancy of both storage accounts. The witness must outlive a zone: use a zone-redundant one where the region has zones.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GZRS'])
param storageSku string = 'Standard_ZRS'

@description('Whether the plan spans zones (regions with zones only).')
param zoneRedundant bool = false

@description('Memory of one instance.')
@allowed([2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances of one group of functions.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('HTTP instances that are always warm; 0 saves money and costs a cold start.')
@minValue(0)
@maxValue(20)
param alwaysReadyHttpInstances int = 0

@description('Client id of the Entra app registration people sign in with (app roles Admin, Control, Monitor). Empty: API tokens only.')
param entraClientId string = ''

@description('Tenant of that registration.')
param entraTenantId string = subscription().tenantId

@description('Days that heartbeats, probes and events are kept.')
@minValue(1)
@maxValue(400)
param retentionDays int = 14

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('JSON list of webhooks to tell of alerts, with their secrets (docs/alerts.md). Empty: none, or the ones set before are dropped.')
@secure()
param alertWebhooks string = ''

@description('Whether clusters of Windows nodes may be made: a preview, never run on Azure or Windows (docs/windows.md).')
@allowed(['', 'preview'])
param windows string = ''

@description('What Windows nodes download, each with its SHA-256: JSON as in docs/deploy.md. Needed with windows=preview.')
param windowsArtifacts string = ''

@description('E-mail address that hears when the health audit stands still. Empty: the alert is only shown in the portal.')
param alertEmail string = ''

@description('Whether Azure asks /api/health from three regions every five minutes.')
param availabilityTest bool = true

var token = uniqueString(subscription().id, resourceGroup().id, location)
var storageName = 'mpst${token}'
var witnessName = 'mpwit${token}'
var functionAppName = 'mirrorplane-${token}'
var locked = networking == 'private'
var connected = networking != 'public'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'mirrorplane-${token}'
  location: location
  tags: tags
}

module storage 'modules/storage.bicep' = {
  name: 'mirrorplane-storage'
  params: {
    name: storageName
    location: location
    tags: tags
    sku: storageSku
    locked: locked
    principalId: identity.properties.principalId
  }
}

module witness 'modules/witness.bicep' = {
  name: 'mirrorplane-witness'
  params: {
    name: witnessName
    location: location
    tags: tags
    sku: storageSku
  }
}

module vault 'modules/vault.bicep' = {
  name: 'mirrorplane-vault'
  params: {
    name: 'mpkv${token}'
    location: location
    tags: tags
    locked: locked
    principalId: identity.properties.principalId
    wrappingKey: wrappingKey
    wrappingKeyPrevious: wrappingKeyPrevious
    alertWebhooks: alertWebhooks
    witnessName: witness.outputs.name
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'mirrorplane-monitoring'
  params: {
    name: 'mirrorplane-${token}'
    location: location
    tags: tags
    retentionDays: logRetentionDays
    principalId: identity.properties.principalId
  }
}

module topic 'modules/topic.bicep' = {
  name: 'mirrorplane-topic'
  params: {
    name: 'mirrorplane-${token}'
    location: location
    tags: tags
    principalId: identity.properties.principalId
  }
}

module network 'modules/network.bicep' = if (connected) {
  name: 'mirrorplane-network'
  params: {
    name: 'mirrorplane-${token}'
    location: location
    tags: tags
    addressSpace: addressSpace
  }
}

module endpoints 'modules/endpoints.bicep' = if (locked) {
  name: 'mirrorplane-endpoints'
  params: {
    location: location
    tags: tags
    vnetId: connected ? network!.outputs.vnetId : ''
    subnetId: connected ? network!.outputs.endpointSubnetId : ''
    storageName: storage.outputs.name
    vaultName: vault.outputs.name
  }
}

// Before the app, so that it finds the rights at its first start.
module clusterRole 'modules/cluster-role.bicep' = {
  name: 'mirrorplane-cluster-role-${token}'
  scope: subscription()
  params: {
    principalId: identity.properties.principalId
    label: token
  }
}

module app 'modules/app.bicep' = {
  name: 'mirrorplane-app'
  params: {
    name: functionAppName
    location: location
    tags: tags
    identityName: identity.name
    storageName: storage.outputs.name
    packageContainer: storage.outputs.packageContainer
    vaultUri: vault.outputs.uri
    insightsName: monitoring.outputs.insightsName
    topicEndpoint: topic.outputs.endpoint
    subnetId: connected ? network!.outputs.functionSubnetId : ''
    outboundAddress: connected ? '${network!.outputs.address}/32' : ''
    zoneRedundant: zoneRedundant
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyHttpInstances: alwaysReadyHttpInstances
    bootstrapTokenSha256: bootstrapTokenSha256
    hasPreviousKey: !empty(wrappingKeyPrevious)
    hasAlertWebhooks: !empty(alertWebhooks)
    retentionDays: retentionDays
    windows: windows
    windowsArtifacts: windowsArtifacts
    agentWheel: agentWheel
    packageUri: packageUri
    entraClientId: entraClientId
    entraTenantId: entraTenantId
  }
  dependsOn: [
    clusterRole
    endpoints
  ]
}

module staleAudit 'modules/stale-audit.bicep' = {
  name: 'mirrorplane-stale-audit'
  params: {
    name: 'mirrorplane-${token}'
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    insightsId: monitoring.outputs.insightsId
    healthUrl: '${app.outputs.url}/api/health'
    alertEmail: alertEmail
    availabilityTest: availabilityTest
  }
}

@description('Address of the API and of the console.')
output url string = app.outputs.url

@description('For deploying code and for events.bicep.')
output functionAppName string = app.outputs.name
output witnessAccountName string = witness.outputs.name

@description('Whose rights the role assignments are about.')
output principalId string = identity.properties.principalId
