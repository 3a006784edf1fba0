// Both nodes of a pair: the same settings and the same secrets, but for the link, which node a serves.

param settings object
param zones array
param publicAddressIdA string
param publicAddressIdB string
@secure()
param adminPassword string
@secure()
param artifactsSasToken string
@secure()
param pair object
@secure()
param linkSecret string

module nodeA 'node.bicep' = {
  name: '${settings.clusterName}-node-a'
  params: {
    settings: settings
    node: 'a'
    zone: empty(zones) ? '' : (zones[0])
    privateAddress: pair.nodes.a.address
    publicAddressId: publicAddressIdA
    adminPassword: adminPassword
    artifactsSasToken: artifactsSasToken
    pair: pair
    linkSecret: linkSecret
  }
}

module nodeB 'node.bicep' = {
  name: '${settings.clusterName}-node-b'
  params: {
    settings: settings
    node: 'b'
    zone: empty(zones) ? '' : (zones[length(zones) - 1])
    privateAddress: pair.nodes.b.address
    publicAddressId: publicAddressIdB
    adminPassword: adminPassword
    artifactsSasToken: artifactsSasToken
    pair: pair
    linkSecret: ''
  }
}

output vmNames array = [nodeA.outputs.vmName, nodeB.outputs.vmName]
