// One node of a pair: interface, data disk and VM. Its boot document is the one that a control plane would make, but for
// where the agent comes from and what the node is told (docs/security.md: what of it is secret, and until when).

@description('What both nodes have in common, see main.bicep.')
param settings object
param node string
param zone string
param privateAddress string
param publicAddressId string
@secure()
param adminPassword string
@secure()
param artifactsSasToken string
@secure()
param pair object
@secure()
param linkSecret string

var bootstrapProgram = loadTextContent('../../vm/linux/bootstrap.py')
var agentUnit = loadTextContent('../../vm/linux/mirrorplane-agent.service')
var logRotation = loadTextContent('../../vm/linux/mirrorplane.logrotate')
var bootstrap = {
  artifactsLocation: settings.artifactsLocation
  artifactsSasToken: artifactsSasToken
  wheelName: settings.wheelName
  wheelSha256: settings.wheelSha256
  moduleName: settings.moduleName
  moduleSha256: settings.moduleSha256
  pair: union(pair, { node: node }, empty(linkSecret) ? {} : { linkSecret: linkSecret })
}
var bootDocument = {
  write_files: [
    {
      path: '/var/lib/mirrorplane/bootstrap.json'
      owner: 'root:root'
      permissions: '0600'
      content: string(bootstrap)
    }
    {
      path: '/var/lib/mirrorplane/bootstrap.py'
      owner: 'root:root'
      permissions: '0700'
      content: bootstrapProgram
    }
    {
      path: '/etc/systemd/system/mirrorplane-agent.service'
      owner: 'root:root'
      permissions: '0644'
      content: agentUnit
    }
    {
      path: '/etc/logrotate.d/mirrorplane'
      owner: 'root:root'
      permissions: '0644'
      content: logRotation
    }
  ]
  packages: settings.packages
  disk_setup: {
    '/dev/disk/azure/scsi1/lun0': {
      table_type: 'gpt'
      layout: true
      overwrite: false
    }
  }
  fs_setup: [
    {
      label: 'mirrorplane'
      filesystem: 'ext4'
      device: '/dev/disk/azure/scsi1/lun0'
      partition: 'auto'
      overwrite: false
    }
  ]
  mounts: [
    ['/dev/disk/azure/scsi1/lun0-part1', '/data', 'ext4', 'defaults,noatime,nofail', '0', '2']
  ]
  runcmd: [
    ['systemctl', 'enable', 'mirrorplane-agent.service']
    ['/usr/bin/python3', '/var/lib/mirrorplane/bootstrap.py']
    ['systemctl', 'enable', '--now', 'mirrorplane-agent.service']
  ]
}

resource nic 'Microsoft.Network/networkInterfaces@2026-03-01' = {
  name: '${settings.clusterName}-${node}-nic'
  location: settings.location
  tags: settings.tags
  properties: {
    ipConfigurations: [
      {
        name: 'primary'
        properties: {
          primary: true
          privateIPAddress: privateAddress
          privateIPAddressVersion: 'IPv4'
          privateIPAllocationMethod: 'Static'
          publicIPAddress: {
            id: publicAddressId
          }
          subnet: {
            id: settings.subnetId
          }
          loadBalancerBackendAddressPools: [
            {
              id: settings.backendPoolId
            }
          ]
        }
      }
    ]
    networkSecurityGroup: {
      id: settings.securityGroupId
    }
  }
}

resource disk 'Microsoft.Compute/disks@2026-03-02' = {
  name: '${settings.clusterName}-${node}-data'
  location: settings.location
  tags: settings.tags
  zones: empty(zone) ? null : [zone]
  sku: {
    name: 'Premium_LRS'
  }
  properties: {
    creationData: {
      createOption: 'Empty'
    }
    diskSizeGB: settings.dataDiskGb
    networkAccessPolicy: 'DenyAll'
    publicNetworkAccess: 'Disabled'
  }
}

resource vm 'Microsoft.Compute/virtualMachines@2026-04-01' = {
  name: '${settings.clusterName}-${node}'
  location: settings.location
  tags: settings.tags
  zones: empty(zone) ? null : [zone]
  properties: {
    hardwareProfile: {
      vmSize: settings.vmSize
    }
    storageProfile: {
      imageReference: settings.image
      osDisk: {
        name: '${settings.clusterName}-${node}-os'
        osType: 'Linux'
        caching: 'ReadWrite'
        createOption: 'FromImage'
        deleteOption: 'Delete'
        managedDisk: {
          storageAccountType: 'Premium_LRS'
        }
      }
      dataDisks: [
        {
          lun: 0
          name: disk.name
          caching: 'None'
          createOption: 'Attach'
          deleteOption: 'Detach'
          managedDisk: {
            id: disk.id
          }
        }
      ]
    }
    osProfile: {
      computerName: '${settings.clusterName}-${node}'
      adminUsername: settings.adminUsername
      adminPassword: empty(adminPassword) ? null : adminPassword
      allowExtensionOperations: true
      customData: base64('#cloud-config\n${string(bootDocument)}\n')
      linuxConfiguration: {
        disablePasswordAuthentication: empty(adminPassword)
        provisionVMAgent: true
        patchSettings: {
          assessmentMode: 'ImageDefault'
          patchMode: 'ImageDefault'
        }
        ssh: empty(settings.sshPublicKey) ? null : {
          publicKeys: [
            {
              keyData: settings.sshPublicKey
              path: '/home/${settings.adminUsername}/.ssh/authorized_keys'
            }
          ]
        }
      }
    }
    networkProfile: {
      networkInterfaces: [
        {
          id: nic.id
          properties: {
            primary: true
            deleteOption: 'Detach'
          }
        }
      ]
    }
    securityProfile: {
      securityType: 'TrustedLaunch'
      uefiSettings: {
        secureBootEnabled: true
        vTpmEnabled: true
      }
    }
    diagnosticsProfile: {
      bootDiagnostics: {
        enabled: true
      }
    }
    // A node that hangs cannot agree to its own restart.
    scheduledEventsPolicy: {
      userInitiatedReboot: {
        automaticallyApprove: true
      }
      userInitiatedRedeploy: {
        automaticallyApprove: true
      }
    }
  }
}

output vmName string = vm.name
