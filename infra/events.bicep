// Platform events for the control plane: health of VMs, and changes of resources of clusters. Deployed AFTER the code:
// Event Grid refuses (or puts on probation) a subscription whose function is not there yet.
// Azure allows one system topic per source and kind: where the subscription has one already, name it.
targetScope = 'resourceGroup'

@description('The function app, with its code deployed.')
param functionAppName string

@description('The control plane\'s storage account with keys; undelivered events go to its container dead-letters.')
param witnessAccountName string

@description('Tags of every resource.')
param tags object = {}

@description('Whether health events of VMs are subscribed to.')
param healthEvents bool = true

@description('Whether changes of resources are subscribed to.')
param resourceEvents bool = true

resource app 'Microsoft.Web/sites@2025-05-01' existing = {
  name: functionAppName
}

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: witnessAccountName
}

var functionId = '${app.id}/functions/platform_event'
var mine = '${subscription().id}/resourceGroups/mirrorplane-'
// Written with the account's key: topics of global sources have no identity.
var deadLetters = {
  endpointType: 'StorageBlob'
  properties: {
    resourceId: storage.id
    blobContainerName: 'dead-letters'
  }
}
var retry = {
  maxDeliveryAttempts: 30
  eventTimeToLiveInMinutes: 1440
}

resource health 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (healthEvents) {
  name: '${functionAppName}-health'
  location: 'global'
  tags: tags
  properties: {
    source: subscription().id
    topicType: 'microsoft.resourcenotifications.healthresources'
  }
}

resource healthToApp 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (healthEvents) {
  parent: health
  name: 'control-plane'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: functionId
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: [
        'Microsoft.ResourceNotifications.HealthResources.AvailabilityStatusChanged'
        'Microsoft.ResourceNotifications.HealthResources.ResourceAnnotated'
      ]
      subjectBeginsWith: mine
      isSubjectCaseSensitive: false
    }
    retryPolicy: retry
    deadLetterDestination: deadLetters
  }
}

resource changes 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (resourceEvents) {
  name: '${functionAppName}-resources'
  location: 'global'
  tags: tags
  properties: {
    source: subscription().id
    topicType: 'Microsoft.Resources.Subscriptions'
  }
}

resource changesToApp 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (resourceEvents) {
  parent: changes
  name: 'control-plane'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: functionId
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: [
        'Microsoft.Resources.ResourceWriteSuccess'
        'Microsoft.Resources.ResourceDeleteSuccess'
        'Microsoft.Resources.ResourceActionSuccess'
      ]
      subjectBeginsWith: mine
      isSubjectCaseSensitive: false
    }
    retryPolicy: retry
    deadLetterDestination: deadLetters
  }
}
