// The function app on Flex Consumption: runtime, scale and package are in functionAppConfig (the settings of older plans
// are refused there); every app setting that the code reads is in `appSettings`, an empty one meaning "not given".

param name string
param location string
param tags object
param identityName string
param storageName string
param packageContainer string
param vaultUri string
param insightsName string
param topicEndpoint string
param subnetId string

@description('Range from which the control plane calls nodes; empty: not known, nodes are not probed.')
param outboundAddress string
param zoneRedundant bool
param instanceMemoryMB int
param maximumInstanceCount int
param alwaysReadyHttpInstances int
param bootstrapTokenSha256 string
param hasPreviousKey bool
param hasAlertWebhooks bool
param retentionDays int
param windows string
param windowsArtifacts string
param agentWheel string

@secure()
param packageUri string
param entraClientId string
param entraTenantId string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource plan 'Microsoft.Web/serverfarms@2025-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2025-05-01' = {
  name: name
  location: location
  // azd finds the app to deploy to by this tag.
  tags: union(tags, { 'azd-service-name': 'control-plane' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: '3.13'
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyHttpInstances > 0 ? [{ name: 'http', instanceCount: alwaysReadyHttpInstances }] : []
      }
    }
  }
}

resource settings 'Microsoft.Web/sites/config@2025-05-01' = {
  parent: app
  name: 'appsettings'
  properties: {
    // The identity for all of Azure: clusters, storage, telemetry.
    AZURE_CLIENT_ID: identity.properties.clientId
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identity.properties.clientId
    AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
    AzureWebJobsStorage__queueServiceUri: storage.properties.primaryEndpoints.queue
    AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
    APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
    MIRRORPLANE_SUBSCRIPTION_ID: subscription().subscriptionId
    MIRRORPLANE_ARM_ENDPOINT: environment().resourceManager
    MIRRORPLANE_PUBLIC_URL: 'https://${app.properties.defaultHostName}'
    MIRRORPLANE_WITNESS_STORAGE: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/witness-storage)'
    MIRRORPLANE_WRAPPING_KEY: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/wrapping-key)'
    MIRRORPLANE_WRAPPING_KEY_PREVIOUS: hasPreviousKey ? '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/wrapping-key-previous)' : ''
    MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256: bootstrapTokenSha256
    MIRRORPLANE_EASY_AUTH: empty(entraClientId) ? '' : 'enabled'
    MIRRORPLANE_AGENT_WHEEL: '/home/site/wwwroot/dist/${agentWheel}'
    MIRRORPLANE_CONTROL_PLANE_ADDRESSES: outboundAddress
    MIRRORPLANE_RETENTION_DAYS: string(retentionDays)
    MIRRORPLANE_WINDOWS: windows
    MIRRORPLANE_WINDOWS_ARTIFACTS: windowsArtifacts
    MIRRORPLANE_ALERT_TOPIC_ENDPOINT: topicEndpoint
    // No key: the identity publishes.
    MIRRORPLANE_ALERT_TOPIC_KEY: ''
    MIRRORPLANE_ALERT_TOPIC_CLIENT_ID: identity.properties.clientId
    MIRRORPLANE_ALERT_WEBHOOKS: hasAlertWebhooks ? '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/alert-webhooks)' : ''
    // Empty: the public cloud's own addresses.
    MIRRORPLANE_METRICS_ENDPOINT: ''
    MIRRORPLANE_LOGS_ENDPOINT: ''
  }
}

// Deployments authenticate with Entra; user names and passwords are off.
resource noFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-05-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource noBasicScm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-05-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

// People sign in with Entra; nodes and programs bring tokens of the control plane itself, so a request without a sign-in
// must come through: the code asks every caller for its rights (MIRRORPLANE_EASY_AUTH makes it believe the platform).
resource signIn 'Microsoft.Web/sites/config@2025-05-01' = if (!empty(entraClientId)) {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: true
      runtimeVersion: '~1'
    }
    globalValidation: {
      requireAuthentication: false
      unauthenticatedClientAction: 'AllowAnonymous'
      excludedPaths: [
        '/api/health'
        '/api/nodes/enrol'
        '/api/nodes/heartbeat'
        '/api/nodes/agent-wheel'
        '/api/credential-downloads'
      ]
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: entraClientId
          openIdIssuer: '${environment().authentication.loginEndpoint}${entraTenantId}/v2.0'
        }
        validation: {
          allowedAudiences: [
            entraClientId
            'api://${entraClientId}'
          ]
        }
      }
    }
    login: {
      tokenStore: {
        enabled: false
      }
    }
  }
  dependsOn: [
    settings
  ]
}

// The package is the source with its requirements (tools/package.py); Azure installs them.
resource code 'Microsoft.Web/sites/extensions@2024-04-01' = if (!empty(packageUri)) {
  parent: app
  name: 'onedeploy'
  properties: {
    packageUri: packageUri
    remoteBuild: true
  }
  dependsOn: [
    settings
  ]
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
