// The control plane in a resource group of its own: what `azd provision` deploys. The button deploys azuredeploy.json,
// which is compiled from the same control-plane.bicep (tools/bicep, checked by test).
targetScope = 'subscription'

@description('Name of the azd environment; it names the resource group.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('Region of the control plane. Clusters may be in any region.')
@minLength(1)
param location string

@description('Base64 of 32 random bytes. Empty keeps the key that the vault holds already; needed at the first deployment.')
@secure()
param wrappingKey string = ''

@description('SHA-256 of the first administrator token, 64 hexadecimal digits. Empty: no such token (any more).')
param bootstrapTokenSha256 string = ''

@description('What the control plane is connected to; see control-plane.bicep.')
@allowed(['public', 'nat', 'private'])
param networking string = 'public'

@description('Client id of the Entra app registration people sign in with. Empty: API tokens only.')
param entraClientId string = ''

@description('E-mail address that hears when the health audit stands still. Empty: the alert is only shown in the portal.')
param alertEmail string = ''

@description('HTTP instances that are always warm; 0 saves money and costs a cold start.')
@minValue(0)
@maxValue(20)
param alwaysReadyHttpInstances int = 0

@description('Whether clusters of Windows nodes may be made; see control-plane.bicep.')
@allowed(['', 'preview'])
param windows string = ''

@description('What Windows nodes download; see control-plane.bicep.')
param windowsArtifacts string = ''

var tags = {
  'azd-env-name': environmentName
}

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-mirrorplane-${environmentName}'
  location: location
  tags: tags
}

module controlPlane 'control-plane.bicep' = {
  name: 'mirrorplane-control-plane'
  scope: group
  params: {
    location: location
    tags: tags
    wrappingKey: wrappingKey
    bootstrapTokenSha256: bootstrapTokenSha256
    networking: networking
    entraClientId: entraClientId
    alertEmail: alertEmail
    alwaysReadyHttpInstances: alwaysReadyHttpInstances
    windows: windows
    windowsArtifacts: windowsArtifacts
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_APP_NAME string = controlPlane.outputs.functionAppName
output AZURE_WITNESS_ACCOUNT_NAME string = controlPlane.outputs.witnessAccountName
output MIRRORPLANE_URL string = controlPlane.outputs.url
