// What the control plane may do with clusters: exactly the operations its code asks of Resource Manager, one by one, at
// the subscription (clusters get resource groups of their own). A test computes the list from the calls of the code.
// Limit: Azure cannot bind such a role to "resources with our tag"; the code changes nothing without its ownership tags,
// but the identity could. Who wants a wall there gives Mirrorplane a subscription of its own.
targetScope = 'subscription'

param principalId string

@description('Part of the role\'s display name, which must be unique in the tenant.')
param label string

var here = subscription().id

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(here, 'mirrorplane-cluster-operator', label)
  properties: {
    roleName: 'Mirrorplane cluster operator (${label})'
    description: 'Creates, watches, repairs and deletes the resources of mirror clusters.'
    type: 'CustomRole'
    assignableScopes: [
      here
    ]
    permissions: [
      {
        actions: [
          'Microsoft.Resources/subscriptions/resourceGroups/read' // is the cluster's group there, is it ours
          'Microsoft.Resources/subscriptions/resourceGroups/write' // a group per cluster
          'Microsoft.Resources/subscriptions/resourceGroups/delete' // when nothing is left in it
          'Microsoft.Resources/subscriptions/resourceGroups/resources/read' // what is left in it
          'Microsoft.Resources/subscriptions/operationresults/read' // how far the deletion of a group is
          'Microsoft.Network/virtualNetworks/read' // compare with the spec
          'Microsoft.Network/virtualNetworks/write' // the network and its subnet
          'Microsoft.Network/virtualNetworks/delete' // tear down
          'Microsoft.Network/virtualNetworks/subnets/join/action' // interfaces, and a private virtual IP, live in the subnet
          'Microsoft.Network/networkSecurityGroups/read' // compare with the spec
          'Microsoft.Network/networkSecurityGroups/write' // the closed list of who may reach a node
          'Microsoft.Network/networkSecurityGroups/delete' // tear down
          'Microsoft.Network/networkSecurityGroups/join/action' // the subnet carries it
          'Microsoft.Network/natGateways/read' // compare with the spec
          'Microsoft.Network/natGateways/write' // way out of the private subnet
          'Microsoft.Network/natGateways/delete' // tear down
          'Microsoft.Network/natGateways/join/action' // the subnet uses it
          'Microsoft.Network/publicIPAddresses/read' // compare with the spec, learn the address
          'Microsoft.Network/publicIPAddresses/write' // virtual IP, nodes, NAT gateway
          'Microsoft.Network/publicIPAddresses/delete' // tear down
          'Microsoft.Network/publicIPAddresses/join/action' // balancer, interfaces and gateway take theirs
          'Microsoft.Network/loadBalancers/read' // compare with the spec
          'Microsoft.Network/loadBalancers/write' // the virtual IP, its probe and rules
          'Microsoft.Network/loadBalancers/delete' // tear down
          'Microsoft.Network/loadBalancers/backendAddressPools/join/action' // both nodes are behind it
          'Microsoft.Network/networkInterfaces/read' // compare with the spec
          'Microsoft.Network/networkInterfaces/write' // one per node
          'Microsoft.Network/networkInterfaces/delete' // tear down
          'Microsoft.Network/networkInterfaces/join/action' // the VM takes its own
          'Microsoft.Network/locations/operations/read' // how far an asynchronous operation is
          'Microsoft.Network/locations/operationResults/read' // its result
          'Microsoft.Compute/disks/read' // compare with the spec
          'Microsoft.Compute/disks/write' // one data disk per node; also what attaching it asks for
          'Microsoft.Compute/disks/delete' // tear down
          'Microsoft.Compute/availabilitySets/read' // compare with the spec
          'Microsoft.Compute/availabilitySets/write' // nodes on different racks, where there are no zones
          'Microsoft.Compute/availabilitySets/delete' // tear down
          'Microsoft.Compute/proximityPlacementGroups/read' // compare with the spec, find a brought one
          'Microsoft.Compute/proximityPlacementGroups/write' // nodes near each other; also what placing a VM asks for
          'Microsoft.Compute/proximityPlacementGroups/delete' // tear down
          'Microsoft.Compute/galleries/images/read' // VMs from the newest version of an image that was brought
          'Microsoft.Compute/galleries/images/versions/read' // VMs from an image that was brought
          'Microsoft.Compute/virtualMachines/read' // compare with the spec, before every repair
          'Microsoft.Compute/virtualMachines/write' // one per node
          'Microsoft.Compute/virtualMachines/delete' // tear down, replace a node
          'Microsoft.Compute/virtualMachines/extensions/read' // whether a Windows node has been booted
          'Microsoft.Compute/virtualMachines/extensions/write' // the first boot of a Windows node
          'Microsoft.Compute/virtualMachines/instanceView/read' // power state for the audit
          'Microsoft.Compute/virtualMachines/start/action' // repair: a stopped redundant node
          'Microsoft.Compute/virtualMachines/restart/action' // repair: a VM that hangs
          'Microsoft.Compute/virtualMachines/redeploy/action' // repair: to another host
          'Microsoft.Compute/virtualMachines/reapply/action' // repair: a VM in state failed
          'Microsoft.Compute/virtualMachines/powerOff/action' // repair: before a replacement
          'Microsoft.Compute/virtualMachines/deallocate/action' // repair: free the host
          'Microsoft.Compute/virtualMachines/runCommand/action' // repair: restart the agent
          'Microsoft.Compute/locations/operations/read' // how far an asynchronous operation is
          'Microsoft.ResourceHealth/availabilityStatuses/current/read' // the audit's fact "resource health"
          'Microsoft.Insights/metrics/read' // the audit's facts from the balancer's probes
          'Microsoft.Insights/logs/*/read' // the audit's fact from the balancer's log (its table has no action of its own)
        ]
        notActions: []
      }
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(here, principalId, role.id)
  properties: {
    roleDefinitionId: role.id
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
