// A mirror cluster without a control plane: two VMs in two zones, one virtual IP, a storage account for the witness.
//
// Made once: custom data of a VM cannot be changed, and it holds secrets that are good once. docs/deploy.md ("Just the
// pair") says how to use it, docs/security.md what its secrets open and until when.
targetScope = 'resourceGroup'

@description('Name of the cluster: lower-case letters, digits and hyphens; its resources are called after it.')
@minLength(2)
@maxLength(24)
param clusterName string = 'pair'

@description('Region; one with zones, unless zones is empty.')
param location string = resourceGroup().location

@description('Operating system of the nodes.')
@allowed(['Linux'])
param os string = 'Linux'

@description('Image of the nodes.')
@allowed(['debian-12', 'debian-13', 'ubuntu-24.04'])
param image string = 'debian-12'

@description('Size of each VM.')
param vmSize string = 'Standard_D2s_v5'

@description('Zones of node a and node b; both stand in one zone if it is the only one named. An empty list for regions without zones.')
@maxLength(2)
param zones array = ['1', '2']

@description('Name of the administrator on both VMs.')
param adminUsername string = 'azureuser'

@description('Public SSH key of the administrator. Empty: adminPassword is used.')
param sshPublicKey string = ''

@description('Password of the administrator, if there is no key.')
@secure()
param adminPassword string = ''

@description('Addresses (CIDR) from which people reach SSH, the nodes\' consoles and the credential link. Empty: nobody does.')
param adminAddresses array = []

@description('Addresses (CIDR, or Internet) from which clients reach the application and the test page at the virtual IP. Empty: nobody does.')
param clientAddresses array = []

@description('Ports of the application at the virtual IP, the same on the nodes. Ports of the nodes themselves (22, 5600, 8888, 9001, 9010, 9453) are left out: of those only 9453 is there.')
param applicationPorts array = [8080]

@description('DNS label of the virtual IP, unique in the region.')
param vipDnsLabel string = 'vip${uniqueString(resourceGroup().id)}'

@description('Beginning of the DNS labels of the two VMs; -a and -b are added.')
param vmDnsPrefix string = 'vm${uniqueString(resourceGroup().id)}'

@description('Size of the data disk of each node, mounted at /data.')
@minValue(4)
@maxValue(32767)
param dataDiskGb int = 32

@description('Packages of the distribution that the application needs.')
param packages array = []

@description('https address of the directory with the agent\'s wheel and the module file. Redirects are not followed.')
param artifactsLocation string

@description('Signature to put behind those addresses. Empty: they are public.')
@secure()
param artifactsSasToken string = ''

@description('File name of the agent\'s wheel there.')
param wheelName string = 'mirror_agent-0.1.0-py3-none-any.whl'

@description('SHA-256 of the wheel, 64 hexadecimal digits.')
@minLength(64)
@maxLength(64)
param wheelSha256 string

@description('File name of the module there: the application, its scripts and checkers, as JSON.')
param moduleName string = 'module.json'

@description('SHA-256 of the module file, 64 hexadecimal digits.')
@minLength(64)
@maxLength(64)
param moduleSha256 string

@description('Redundancy of the storage account with the witness record; it must outlive a zone.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GZRS'])
param storageSku string = 'Standard_ZRS'

@description('Until when the nodes\' signature for the witness record holds; see docs/deploy.md on how to renew it.')
param witnessValidUntil string = dateTimeAdd(utcNow(), 'P10Y')

@description('Admits the second node, once. Leave it to the template.')
@secure()
param pairSecret string = '${newGuid()}-${newGuid()}'

@description('Opens the credential link, once, within a day. Leave it to the template.')
@secure()
param linkSecret string = '${newGuid()}-${newGuid()}'

@description('Tags of every resource.')
param tags object = {}

var clusterId = guid(resourceGroup().id, clusterName)
var network = '10.0.0.0/16'
var subnet = '10.0.0.0/24'
var addressA = '10.0.0.4'
var addressB = '10.0.0.5'
var storageName = 'mpw${uniqueString(resourceGroup().id, clusterName)}'
var balancerName = '${clusterName}-lb'
var allZones = empty(zones) ? null : ['1', '2', '3']
var zoneA = empty(zones) ? '' : (zones[0])
var zoneB = empty(zones) ? '' : (zones[length(zones) - 1])
var images = {
  'debian-12': {
    publisher: 'Debian'
    offer: 'debian-12'
    sku: '12-gen2'
    version: 'latest'
  }
  'debian-13': {
    publisher: 'Debian'
    offer: 'debian-13'
    sku: '13-gen2'
    version: 'latest'
  }
  'ubuntu-24.04': {
    publisher: 'Canonical'
    offer: 'ubuntu-24_04-lts'
    sku: 'server'
    version: 'latest'
  }
}
var bootPackages = {
  Linux: ['python3-venv', 'ca-certificates', 'e2fsprogs']
}
var closedRules = [
  {
    name: 'probe'
    properties: {
      description: 'health probe of the load balancer'
      priority: 100
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: 'AzureLoadBalancer'
      sourcePortRange: '*'
      destinationAddressPrefix: subnet
      destinationPortRange: '9010'
    }
  }
  {
    name: 'peer'
    properties: {
      description: 'the other node: heartbeats, mirror, console, admission'
      priority: 110
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: subnet
      sourcePortRange: '*'
      destinationAddressPrefix: subnet
      destinationPortRanges: ['8888', '5600', '9453', '9001']
    }
  }
  {
    name: 'deny-all'
    properties: {
      description: 'everything not listed above'
      priority: 4096
      direction: 'Inbound'
      access: 'Deny'
      protocol: '*'
      sourceAddressPrefix: '*'
      sourcePortRange: '*'
      destinationAddressPrefix: '*'
      destinationPortRange: '*'
    }
  }
]
// What is not SSH's or the product's own, each once: a union keeps the first place of what is in it already.
var ownPorts = [22, 5600, 8888, 9001, 9010, 9453]
var balancedPorts = skip(union(ownPorts, applicationPorts), length(ownPorts))
var applicationPortTexts = [for port in balancedPorts: string(port)]
// For some seconds after a planned swap the old primary passes connections on to the new one.
var handoverRules = empty(balancedPorts) ? [] : [
  {
    name: 'handover'
    properties: {
      description: 'relay of the other node at a swap'
      priority: 115
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: subnet
      sourcePortRange: '*'
      destinationAddressPrefix: subnet
      destinationPortRanges: applicationPortTexts
    }
  }
]
var adminRules = empty(adminAddresses) ? [] : [
  {
    name: 'administration'
    properties: {
      description: 'given addresses only: SSH, consoles, credential link'
      priority: 120
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: length(adminAddresses) == 1 ? adminAddresses[0] : null
      sourceAddressPrefixes: length(adminAddresses) == 1 ? null : adminAddresses
      sourcePortRange: '*'
      destinationAddressPrefix: subnet
      destinationPortRanges: ['22', '9453', '9001']
    }
  }
]
var clientRules = empty(clientAddresses) ? [] : [
  {
    name: 'clients'
    properties: {
      description: 'the virtual IP: application and test page'
      priority: 1000
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefix: length(clientAddresses) == 1 ? clientAddresses[0] : null
      sourceAddressPrefixes: length(clientAddresses) == 1 ? null : clientAddresses
      sourcePortRange: '*'
      destinationAddressPrefix: subnet
      destinationPortRanges: concat(['9453'], applicationPortTexts)
    }
  }
]

// --- the witness: a row that only this pair's signature reaches
resource witness 'Microsoft.Storage/storageAccounts@2025-08-01' = {
  name: storageName
  location: location
  tags: tags
  sku: {
    name: storageSku
  }
  kind: 'StorageV2'
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    // Table Storage signs for a single row with the account's key only.
    allowSharedKeyAccess: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: 'Enabled'
    supportsHttpsTrafficOnly: true
  }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-08-01' = {
  parent: witness
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-08-01' = {
  parent: tables
  name: 'witness'
}

// --- the network
resource securityGroup 'Microsoft.Network/networkSecurityGroups@2026-03-01' = {
  name: '${clusterName}-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: concat(closedRules, handoverRules, adminRules, clientRules)
  }
}

resource natAddress 'Microsoft.Network/publicIPAddresses@2026-03-01' = {
  name: '${clusterName}-nat-ip'
  location: location
  tags: tags
  sku: {
    name: 'StandardV2'
    tier: 'Regional'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
    idleTimeoutInMinutes: 4
  }
}

resource nat 'Microsoft.Network/natGateways@2026-03-01' = {
  name: '${clusterName}-nat'
  location: location
  tags: tags
  sku: {
    name: 'StandardV2'
  }
  properties: {
    idleTimeoutInMinutes: 10
    publicIpAddresses: [
      {
        id: natAddress.id
      }
    ]
  }
}

resource vnet 'Microsoft.Network/virtualNetworks@2026-03-01' = {
  name: '${clusterName}-vnet'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [network]
    }
    subnets: [
      {
        name: 'nodes'
        properties: {
          addressPrefix: subnet
          defaultOutboundAccess: false
          natGateway: {
            id: nat.id
          }
          networkSecurityGroup: {
            id: securityGroup.id
          }
        }
      }
    ]
  }
}

resource vip 'Microsoft.Network/publicIPAddresses@2026-03-01' = {
  name: '${clusterName}-vip'
  location: location
  tags: tags
  zones: allZones
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
    idleTimeoutInMinutes: 4
    dnsSettings: {
      domainNameLabel: vipDnsLabel
    }
  }
}

resource ipA 'Microsoft.Network/publicIPAddresses@2026-03-01' = {
  name: '${clusterName}-a-ip'
  location: location
  tags: tags
  zones: empty(zoneA) ? null : [zoneA]
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
    idleTimeoutInMinutes: 4
    dnsSettings: {
      domainNameLabel: '${vmDnsPrefix}-a'
    }
  }
}

resource ipB 'Microsoft.Network/publicIPAddresses@2026-03-01' = {
  name: '${clusterName}-b-ip'
  location: location
  tags: tags
  zones: empty(zoneB) ? null : [zoneB]
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
    idleTimeoutInMinutes: 4
    dnsSettings: {
      domainNameLabel: '${vmDnsPrefix}-b'
    }
  }
}

// --- the virtual IP
resource balancer 'Microsoft.Network/loadBalancers@2026-03-01' = {
  name: balancerName
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    frontendIPConfigurations: [
      {
        name: 'virtual-ip'
        properties: {
          publicIPAddress: {
            id: vip.id
          }
        }
      }
    ]
    backendAddressPools: [
      {
        name: 'nodes'
      }
    ]
    // The agent's own timing (probeIntervalS, probeThreshold) counts on these two figures.
    probes: [
      {
        name: 'ready'
        properties: {
          protocol: 'Http'
          port: 9010
          requestPath: '/var/modules/mirror/ready.txt'
          intervalInSeconds: 5
          probeThreshold: 1
          noHealthyBackendsBehavior: 'AllProbedDown'
        }
      }
    ]
    loadBalancingRules: [for port in concat([9453], balancedPorts): {
      name: 'port-${port}'
      properties: {
        frontendIPConfiguration: {
          id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', balancerName, 'virtual-ip')
        }
        backendAddressPool: {
          id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', balancerName, 'nodes')
        }
        probe: {
          id: resourceId('Microsoft.Network/loadBalancers/probes', balancerName, 'ready')
        }
        protocol: 'Tcp'
        frontendPort: port
        backendPort: port
        idleTimeoutInMinutes: 30
        loadDistribution: 'Default'
        enableTcpReset: true
        enableFloatingIP: false
        disableOutboundSnat: true
      }
    }]
  }
}

// --- the nodes
module nodes 'modules/nodes.bicep' = {
  name: '${clusterName}-nodes'
  params: {
    zones: zones
    publicAddressIdA: ipA.id
    publicAddressIdB: ipB.id
    adminPassword: adminPassword
    artifactsSasToken: artifactsSasToken
    linkSecret: linkSecret
    settings: {
      clusterName: clusterName
      location: location
      tags: tags
      image: images[image]
      vmSize: vmSize
      adminUsername: adminUsername
      sshPublicKey: sshPublicKey
      dataDiskGb: dataDiskGb
      subnetId: '${vnet.id}/subnets/nodes'
      securityGroupId: securityGroup.id
      backendPoolId: '${balancer.id}/backendAddressPools/nodes'
      packages: concat(bootPackages[os], packages)
      artifactsLocation: artifactsLocation
      wheelName: wheelName
      wheelSha256: wheelSha256
      moduleName: moduleName
      moduleSha256: moduleSha256
    }
    pair: {
      cluster: clusterName
      clusterId: clusterId
      nodes: {
        a: {
          address: addressA
          hostName: ipA.properties.dnsSettings.fqdn
        }
        b: {
          address: addressB
          hostName: ipB.properties.dnsSettings.fqdn
        }
      }
      virtualName: vip.properties.dnsSettings.fqdn
      witness: {
        endpoint: witness.properties.primaryEndpoints.table
        table: table.name
        sas: witness.listServiceSas('2025-08-01', {
          canonicalizedResource: '/table/${witness.name}/${table.name}'
          signedPermission: 'rau'
          signedProtocol: 'https'
          signedExpiry: witnessValidUntil
          startPk: clusterId
          endPk: clusterId
          startRk: 'record'
          endRk: 'record'
          keyToSign: 'key1'
        }).serviceSasToken
      }
      secret: pairSecret
    }
  }
}

// Whoever may read this deployment can open the link, as long as nobody has: it works once and for a day.
@description('Certificate of the first administrator: open it once, within a day.')
output credentialUrl string = 'https://${ipA.properties.dnsSettings.fqdn}:9001/#/credential/mpc_${clusterId}_0000000000000001_${linkSecret}'

@description('Console of the serving node; wants the certificate.')
output consoleUrl string = 'https://${vip.properties.dnsSettings.fqdn}:9453/'

@description('Shows which node answers at the virtual IP.')
output testUrl string = 'https://${vip.properties.dnsSettings.fqdn}:9453/mosaic'

@description('The virtual IP\'s name: the address of the application.')
output virtualName string = vip.properties.dnsSettings.fqdn

@description('Names of the two VMs.')
output vmNames array = nodes.outputs.vmNames

@description('Name of the administrator on both VMs.')
output adminUsername string = adminUsername
