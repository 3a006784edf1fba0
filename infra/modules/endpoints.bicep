// Private endpoints of the host's storage account (blobs, queues, tables) and of the vault. The witness account has none:
// nodes reach it from their own networks.

param location string
param tags object
param vnetId string
param subnetId string
param storageName string
param vaultName string

var suffix = environment().suffixes.storage
var vaultZone = environment().name == 'AzureCloud' ? 'privatelink.vaultcore.azure.net' : 'privatelink.vaultcore${environment().suffixes.keyvaultDns}'

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: vaultName
}

module blob 'endpoint.bicep' = {
  name: 'mirrorplane-endpoint-blob'
  params: {
    name: '${storageName}-blob'
    location: location
    tags: tags
    vnetId: vnetId
    subnetId: subnetId
    targetId: storage.id
    groupId: 'blob'
    zoneName: 'privatelink.blob.${suffix}'
  }
}

module queue 'endpoint.bicep' = {
  name: 'mirrorplane-endpoint-queue'
  params: {
    name: '${storageName}-queue'
    location: location
    tags: tags
    vnetId: vnetId
    subnetId: subnetId
    targetId: storage.id
    groupId: 'queue'
    zoneName: 'privatelink.queue.${suffix}'
  }
}

module table 'endpoint.bicep' = {
  name: 'mirrorplane-endpoint-table'
  params: {
    name: '${storageName}-table'
    location: location
    tags: tags
    vnetId: vnetId
    subnetId: subnetId
    targetId: storage.id
    groupId: 'table'
    zoneName: 'privatelink.table.${suffix}'
  }
}

module secrets 'endpoint.bicep' = {
  name: 'mirrorplane-endpoint-vault'
  params: {
    name: '${vaultName}-vault'
    location: location
    tags: tags
    vnetId: vnetId
    subnetId: subnetId
    targetId: vault.id
    groupId: 'vault'
    zoneName: vaultZone
  }
}
